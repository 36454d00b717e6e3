// Moving values: fill, copy with conversion and transposition, addition into.
#pragma once

#include "cuda/device.h"

namespace palimpsest::cuda {

void fill(Device& device, const Tensor& y, double value);
void copy(Device& device, const Tensor& x, const Tensor& y);
void add_into(Device& device, const Tensor& x, const Tensor& y);

}  // namespace palimpsest::cuda
