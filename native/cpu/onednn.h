// Convolution and matrix products through oneDNN, float32. Each call returns false where the portable kernel has to do
// the work: this build has no oneDNN, it is switched off, or the shape is not one for it.
#pragma once

#include <string>

#include "backend/backend.h"
#include "cpu/isa.h"
#include "cpu/post_ops.h"

namespace palimpsest::cpu {

// "oneDNN 2.6.3", empty where this build has none.
std::string onednn_version();
bool onednn_enabled();
// For tests and comparisons; without effect where there is none.
void set_onednn_enabled(bool enabled);

// Has oneDNN use no instructions beyond this set once it begins (with the kernels of AVX-512 on machines with AMX as
// well); false where it has begun with another, which it cannot change.
bool onednn_follow(Isa isa);
// Whether it is to be used. Begins it: with the set that it is to follow and float32 products of float32 digits,
// whatever the variables of the environment that it listens to itself say.
bool onednn_ready();

// With `after` only where one primitive does all of it.
bool onednn_gemm(const GemmShape& shape, const float* a, const float* b, float* c, std::span<const PostOp> after = {});
bool onednn_conv(const ConvShape& shape, const float* x, const float* w, float* y, std::span<const PostOp> after = {});
bool onednn_conv_input_gradient(const ConvShape& shape, const float* w, const float* y_bar, float* x_bar);
bool onednn_conv_weight_gradient(const ConvShape& shape, const float* x, const float* y_bar, float* w_bar);

}  // namespace palimpsest::cpu
