// Convolutions in float32 by cuDNN, where it was found.
#pragma once

#include "backend/backend.h"
#include "cuda/device.h"
#include "cuda/library.h"

namespace palimpsest::cuda {

// False where the library is not there or does not take the shape, and nothing was done. It takes float32 with the same
// pads on both sides; channels-last activations as they lie, weights turned to [O, KH, KW, C/groups].
bool cudnn_conv(Device& device, const ConvShape& shape, const float* x, const float* w, float* y);
bool cudnn_conv_input_gradient(Device& device, const ConvShape& shape, const float* w, const float* y_bar,
                               float* x_bar);
bool cudnn_conv_weight_gradient(Device& device, const ConvShape& shape, const float* x, const float* y_bar,
                                float* w_bar);

// float64 is ours.
inline bool cudnn_conv(Device&, const ConvShape&, const double*, const double*, double*) { return false; }
inline bool cudnn_conv_input_gradient(Device&, const ConvShape&, const double*, const double*, double*) {
  return false;
}
inline bool cudnn_conv_weight_gradient(Device&, const ConvShape&, const double*, const double*, double*) {
  return false;
}

LibraryState cudnn_state();

}  // namespace palimpsest::cuda
