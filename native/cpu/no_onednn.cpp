// Stand-in for a build without oneDNN: the portable kernels do everything.
#include "cpu/onednn.h"

namespace palimpsest::cpu {

std::string onednn_version() { return ""; }
bool onednn_enabled() { return false; }
void set_onednn_enabled(bool) {}
bool onednn_follow(Isa) { return true; }

bool onednn_gemm(const GemmShape&, const float*, const float*, float*, std::span<const PostOp>) { return false; }
bool onednn_conv(const ConvShape&, const float*, const float*, float*, std::span<const PostOp>) { return false; }
bool onednn_conv_input_gradient(const ConvShape&, const float*, const float*, float*) { return false; }
bool onednn_conv_weight_gradient(const ConvShape&, const float*, const float*, float*) { return false; }

}  // namespace palimpsest::cpu
