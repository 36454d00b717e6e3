// Matrix products on plain pointers, for kernels that are products of another name.
#pragma once

#include "backend/backend.h"
#include "cuda/device.h"

namespace palimpsest::cuda {

// c[i] (M,N) = alpha op(a[i]) (M,K) op(b[i]) (K,N) + beta c[i], by cuBLASLt where it takes it
template <class T>
void multiply(Device& device, const GemmShape& shape, const T* a, const T* b, T* c);

// c (M,N) = sum_k a[k,m]^2 b[k,n]^2
template <class T>
void multiply_squares(Device& device, const GemmShape& shape, const T* a, const T* b, T* c);

}  // namespace palimpsest::cuda
