// Matrix products and the per-example squares of linear layers.
#pragma once

#include "backend/backend.h"

namespace palimpsest::cpu {

// c[i] (M,N) = alpha op(a[i]) (M,K) op(b[i]) (K,N) + beta c[i]
template <typename T>
void gemm(const GemmShape& shape, const T* a, const T* b, T* c);

// s (I,O) = sum_n (sum_t x[n,t,i] y_bar[n,t,o])^2
template <typename T>
void linear_grad_squares(int64_t n, int64_t t, int64_t i, int64_t o, const T* x, const T* y_bar, T* s);

}  // namespace palimpsest::cpu
