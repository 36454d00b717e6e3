// Convolution, its adjoints and its per-example squares: portable kernels. Channels-last activations, row-major
// weights.
#pragma once

#include "backend/backend.h"

namespace palimpsest::cpu {

// y[n,i,j,o] = sum x[n, i sh + kh dh - pad, ..., c] w[o,c,kh,kw]
template <typename T>
void conv(const ConvShape& shape, const T* x, const T* w, T* y);
template <typename T>
void conv_input_gradient(const ConvShape& shape, const T* w, const T* y_bar, T* x_bar);
template <typename T>
void conv_weight_gradient(const ConvShape& shape, const T* x, const T* y_bar, T* w_bar);
// s[o,c,kh,kw] = sum_n (sum_p patches(x)[n,p,c,kh,kw] y_bar[n,p,o])^2
template <typename T>
void conv_grad_squares(const ConvShape& shape, const T* x, const T* y_bar, T* s);

// The same for groups = c = o.
template <typename T>
void depthwise(const ConvShape& shape, const T* x, const T* w, T* y);
template <typename T>
void depthwise_input_gradient(const ConvShape& shape, const T* w, const T* y_bar, T* x_bar);
// With `squares` each example's sum is squared before it is added.
template <typename T>
void depthwise_weight_gradient(const ConvShape& shape, bool squares, const T* x, const T* y_bar, T* w_bar);

}  // namespace palimpsest::cpu
