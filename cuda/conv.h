// Convolution, its adjoints and its per-example squares. Channels-last activations, row-major weights. Types and counts
// are checked by the caller.
#pragma once

#include "backend/backend.h"
#include "cuda/device.h"

namespace palimpsest::cuda {

// y[n,i,j,o] = sum x[n, i sh + kh dh - pad, ..., c] w[o,c,kh,kw]
void conv(Device& device, const ConvShape& shape, const Tensor& x, const Tensor& w, const Tensor& y);
void conv_input_gradient(Device& device, const ConvShape& shape, const Tensor& w, const Tensor& y_bar,
                         const Tensor& x_bar);
void conv_weight_gradient(Device& device, const ConvShape& shape, const Tensor& x, const Tensor& y_bar,
                          const Tensor& w_bar);
// s[o,c,kh,kw] = sum_n (sum_p patches(x)[n,p,c,kh,kw] y_bar[n,p,o])^2
void conv_grad_squares(Device& device, const ConvShape& shape, const Tensor& x, const Tensor& y_bar, const Tensor& s);

}  // namespace palimpsest::cuda
