// Matrix products and the per-example squares of linear layers. Types and counts are checked by the caller.
#pragma once

#include "backend/backend.h"
#include "cuda/device.h"

namespace palimpsest::cuda {

// c[i] (M,N) = alpha op(a[i]) (M,K) op(b[i]) (K,N) + beta c[i]
void gemm(Device& device, const GemmShape& shape, const Tensor& a, const Tensor& b, const Tensor& c);

// s (I,O) = sum_n (sum_t x[n,t,i] y_bar[n,t,o])^2
void linear_grad_squares(Device& device, int64_t n, int64_t t, int64_t i, int64_t o, const Tensor& x,
                         const Tensor& y_bar, const Tensor& s);

}  // namespace palimpsest::cuda
