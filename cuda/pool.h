// Pooling, channels-last. Types and counts are checked by the caller.
#pragma once

#include "cuda/device.h"

namespace palimpsest::cuda {

void max_pool(Device& device, const ConvShape& shape, const Tensor& x, const Tensor& y, const Tensor& index);
void pool_gather(Device& device, const ConvShape& shape, const Tensor& x, const Tensor& index, const Tensor& y);
void pool_scatter(Device& device, const ConvShape& shape, const Tensor& y_bar, const Tensor& index,
                  const Tensor& x_bar);
void average_pool(Device& device, const ConvShape& shape, bool count_pads, const Tensor& x, const Tensor& y);
void average_pool_gradient(Device& device, const ConvShape& shape, bool count_pads, const Tensor& y_bar,
                           const Tensor& x_bar);

}  // namespace palimpsest::cuda
