// Sums and maxima over axes.
#pragma once

#include "cuda/device.h"

namespace palimpsest::cuda {

void reduce_sum(Device& device, const Tensor& x, const Tensor& y, double alpha);
void reduce_max(Device& device, const Tensor& x, int axis, const Tensor& y, const Tensor& index);

}  // namespace palimpsest::cuda
