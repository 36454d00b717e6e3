// Moving values: fill, copy with conversion and transposition, addition into.
#pragma once

#include "core/tensor.h"

namespace palimpsest::cpu {

void fill(const Tensor& y, double value);
void copy(const Tensor& x, const Tensor& y);
void add_into(const Tensor& x, const Tensor& y);

}  // namespace palimpsest::cpu
