// Sums and maxima over axes.
#pragma once

#include "core/tensor.h"

namespace palimpsest::cpu {

void reduce_sum(const Tensor& x, const Tensor& y, double alpha);
void reduce_max(const Tensor& x, int axis, const Tensor& y, const Tensor& index);

}  // namespace palimpsest::cpu
