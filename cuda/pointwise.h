// Convolutions by 1 x 1 without strides and pads: products of matrices as they lie.
#pragma once

#include "cuda/products.h"

namespace palimpsest::cuda {

inline bool is_pointwise(const ConvShape& s) {
  return s.groups == 1 && s.kh == 1 && s.kw == 1 && s.stride_h == 1 && s.stride_w == 1 && s.pad_top == 0 &&
         s.pad_left == 0 && s.oh == s.h && s.ow == s.w;
}

// y [P, O] = x [P, C] w [O, C]^T; false where the convolution is another.
template <class T>
bool pointwise_conv(Device& device, const ConvShape& s, const T* x, const T* w, T* y) {
  if (!is_pointwise(s)) return false;
  GemmShape g;
  g.m = s.n * s.h * s.w, g.n = s.o, g.k = s.c, g.trans_b = true;
  g.lda = s.c, g.ldb = s.c, g.ldc = s.o;
  multiply(device, g, x, w, y);
  return true;
}

// x_bar [P, C] = y_bar [P, O] w [O, C]
template <class T>
bool pointwise_input_gradient(Device& device, const ConvShape& s, const T* w, const T* y_bar, T* x_bar) {
  if (!is_pointwise(s)) return false;
  GemmShape g;
  g.m = s.n * s.h * s.w, g.n = s.c, g.k = s.o;
  g.lda = s.o, g.ldb = s.c, g.ldc = s.c;
  multiply(device, g, y_bar, w, x_bar);
  return true;
}

// w_bar [O, C] = y_bar [P, O]^T x [P, C]
template <class T>
bool pointwise_weight_gradient(Device& device, const ConvShape& s, const T* x, const T* y_bar, T* w_bar) {
  if (!is_pointwise(s)) return false;
  GemmShape g;
  g.m = s.o, g.n = s.c, g.k = s.n * s.h * s.w, g.trans_a = true;
  g.lda = s.o, g.ldb = s.c, g.ldc = s.c;
  multiply(device, g, y_bar, x, w_bar);
  return true;
}

}  // namespace palimpsest::cuda
