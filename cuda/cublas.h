// Matrix products by cuBLASLt, where it was found.
#pragma once

#include "backend/backend.h"
#include "cuda/device.h"
#include "cuda/library.h"

namespace palimpsest::cuda {

// c[i] = alpha op(a[i]) op(b[i]) + beta c[i]; false where the library is not there or does not take the shape, and
// nothing was done.
template <class T>
bool cublas_gemm(Device& device, const GemmShape& shape, const T* a, const T* b, T* c);

LibraryState cublas_state();

}  // namespace palimpsest::cuda
