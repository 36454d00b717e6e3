// Vectors of parameters: dense, float64 sums in a fixed order.
#pragma once

#include "cuda/device.h"

namespace palimpsest::cuda {

double dot(Device& device, const Tensor& x, const Tensor& y);
void axpy(Device& device, double alpha, const Tensor& x, const Tensor& y);
void scale(Device& device, double alpha, const Tensor& y);
void sgd_step(Device& device, const SgdStep& step, const Tensor& gradient, const Tensor& velocity, const Tensor& w);

}  // namespace palimpsest::cuda
