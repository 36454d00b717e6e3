// Depthwise convolution (groups = channels) and its adjoints: no products of matrices in it.
#pragma once

#include "backend/backend.h"
#include "cuda/device.h"

namespace palimpsest::cuda {

template <class T>
void depthwise(Device& device, const ConvShape& shape, const T* x, const T* w, T* y);
template <class T>
void depthwise_input_gradient(Device& device, const ConvShape& shape, const T* w, const T* y_bar, T* x_bar);
// With `squares` each example's sum is squared before it is added.
template <class T>
void depthwise_weight_gradient(Device& device, const ConvShape& shape, bool squares, const T* x, const T* y_bar,
                               T* w_bar);

}  // namespace palimpsest::cuda
