// Epilogues as chains of what a product's kernel can do to its result while that is in registers.
#pragma once

#include <optional>
#include <vector>

#include "backend/backend.h"

namespace palimpsest::cpu {

// Other tensors of y's size are no operands here: oneDNN 2.6 reads them wrongly where channels do not fill a vector, or
// where the convolution reads few. A ReLU is no operation: oneDNN's own makes NaN 0, which would hide it, its PReLU has
// plain loops only, and what lets NaN through (three leaky ReLUs of a slope of 2^-94) was no quicker than a pass.
struct PostOp {
  enum class Kind : uint8_t { add, subtract, multiply, affine };  // affine: alpha y + beta

  Kind kind = Kind::add;
  const float* channels = nullptr;  // a value a channel: the other operand of add, subtract, multiply
  float alpha = 0, beta = 0;
};

// The epilogue of y, whose channels are on `axis`, as such a chain; nothing where it is none.
std::optional<std::vector<PostOp>> post_ops_of(const Epilogue& epilogue, int axis);

}  // namespace palimpsest::cpu
