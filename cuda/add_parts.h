// Adds the parts of a sum that blocks left in working memory, in their order.
#pragma once

#include "cuda/launch.h"

namespace palimpsest::cuda {

// Where the elements of batch entry i, row r, column c of a result lie: i batch + r row + c.
struct Placing {
  int64_t batch, row;
};

// to = alpha sum over parts + beta to, parts [parts][batch][m][n].
template <class T>
__global__ void add_parts_kernel(int parts, int64_t size, int m, int n, T alpha, T beta, Placing placing, const T* from,
                                 T* to) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t e = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; e < size; e += stride) {
    T sum = from[e];
    for (int part = 1; part < parts; ++part) sum += from[part * size + e];
    const int64_t row = e / n;
    T* at = to + row / m * placing.batch + row % m * placing.row + e % n;
    *at = beta == T(0) ? alpha * sum : alpha * sum + beta * *at;
  }
}

template <class T>
void add_parts(Device& device, int64_t parts, int64_t batch, int64_t m, int64_t n, T alpha, T beta,
               const Placing& placing, const T* from, T* to) {
  constexpr int threads = 256;
  const int64_t size = batch * m * n;
  launch(device, "adding the parts of a product", add_parts_kernel<T>, dim3(grid_of(size, threads, 1 << 16)),
         dim3(threads), 0, static_cast<int>(parts), size, static_cast<int>(m), static_cast<int>(n), alpha, beta,
         placing, from, to);
}

}  // namespace palimpsest::cuda
