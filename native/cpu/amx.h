// Products, convolutions and their adjoints on AMX tiles, float32. Each call returns false where another kernel has to
// do the work: the instruction set in use has no tiles, or the shape leaves too much of them empty.
#pragma once

#include "backend/backend.h"
#include "cpu/amx_kernels.h"

namespace palimpsest::cpu {

bool amx_gemm(const GemmShape& shape, const float* a, const float* b, float* c);
bool amx_conv(const ConvShape& shape, const float* x, const float* w, float* y);
bool amx_conv_input_gradient(const ConvShape& shape, const float* w, const float* y_bar, float* x_bar);
bool amx_conv_weight_gradient(const ConvShape& shape, const float* x, const float* y_bar, float* w_bar);
bool amx_conv_grad_squares(const ConvShape& shape, const float* x, const float* y_bar, float* s);
bool amx_linear_grad_squares(int64_t n, int64_t t, int64_t i, int64_t o, const float* x, const float* y_bar, float* s);

// What a product of tiles leaves: c = alpha t + beta c for `rows` by `columns` of it; beta 0 does not read c.
struct AmxOut {
  float* c;
  int64_t distance, second;  // between rows, and from the first tile's first row to the second's
  int64_t rows, columns;
  float alpha, beta;
};

// Runs the product, whole tiles straight into c.
void multiply_into(const AmxKernels& kernels, AmxProduct product, const AmxOut& out);

}  // namespace palimpsest::cpu
