// Reading and writing positions along an axis, and softmax.
#pragma once

#include <span>

#include "cuda/device.h"

namespace palimpsest::cuda {

void take_along_axis(Device& device, const Tensor& x, const Tensor& index, int axis, const Tensor& y);
void put_along_axis(Device& device, const Tensor& y_bar, const Tensor& index, int axis, const Tensor& x_bar);
void gather(Device& device, const Tensor& x, std::span<const int64_t> indices, int axis, const Tensor& y);
void scatter_add(Device& device, const Tensor& y_bar, std::span<const int64_t> indices, int axis, const Tensor& x_bar);
void softmax(Device& device, const Tensor& x, int axis, const Tensor& y, bool logarithm);

}  // namespace palimpsest::cuda
