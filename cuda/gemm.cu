// Matrix product: tiles of the result a block, sums in registers, factors double-buffered in shared memory.
#include "cuda/gemm.h"

#include "core/error.h"
#include "cuda/add_parts.h"
#include "cuda/cublas.h"
#include "cuda/panel.h"
#include "cuda/products.h"
#include "cuda/tiling.h"

namespace palimpsest::cuda {
namespace {

template <class T>
struct Product {
  const T *a, *b;
  T* c;
  int m, n, k;
  int64_t lda, ldb, ldc, stride_a, stride_b, stride_c, stride_part;
  T alpha, beta;
  bool aligned_a, aligned_b, aligned_c;
  int batch, tiles_m, tiles_n, steps;  // of a part
};

// One block a tile of one part of one batch entry: c = alpha a b + beta c, the part's own c.
template <class Tile, bool TransA, bool TransB, bool Squared>
__global__ __launch_bounds__(Tile::threads, Tile::blocks) void gemm_kernel(const Product<typename Tile::Value> p) {
  using T = typename Tile::Value;
  const int tiles = p.tiles_m * p.tiles_n, rest = static_cast<int>(blockIdx.x) / tiles;
  const int entry = rest % p.batch, part = rest / p.batch;
  const TilePlace place = tile_place(static_cast<int>(blockIdx.x) % tiles, p.tiles_m, p.tiles_n);
  const MatrixSource<T, !TransA> a{p.a + entry * p.stride_a, p.lda, p.m, p.k, p.aligned_a};
  const MatrixSource<T, TransB> b{p.b + entry * p.stride_b, p.ldb, p.n, p.k, p.aligned_b};
  const int first_m = place.m * Tile::m, first_n = place.n * Tile::n;
  const int all = (p.k + Tile::k - 1) / Tile::k, first = part * p.steps;
  const Tile tile;
  T sum[Tile::sums] = {};
  multiply_steps<Tile, Squared>(tile, a, first_m, b, first_n, first, first + p.steps < all ? first + p.steps : all, sum,
                                [](int) {});
  T* c = p.c + entry * p.stride_c + part * p.stride_part;
  tile.each([&](int row, int column, int at) {
    const int m = first_m + row, n = first_n + column;
    if (m >= p.m) return;
    T* to = c + m * p.ldc + n;
    T values[Tile::run];
#pragma unroll
    for (int e = 0; e < Tile::run; ++e) {
      values[e] = p.alpha * sum[at + e];
      if (p.beta != T(0) && n + e < p.n) values[e] += p.beta * to[e];
    }
    store_run<Tile::run>(to, values, p.n - n, p.aligned_c);
  });
}

template <class Tile, bool Squared, class T>
void start(Device& device, const GemmShape& s, const Tiling& tiling, const Product<T>& p) {
  const int64_t blocks = tiling.tiles_m * tiling.tiles_n * s.batch * tiling.parts;
  const dim3 grid(static_cast<unsigned>(to_count(blocks, "tiles of a matrix product"))), block(Tile::threads);
  const auto run = [&](auto kernel) { launch(device, "gemm", kernel, grid, block, 0, p); };
  if constexpr (Squared) run(gemm_kernel<Tile, true, false, true>);  // as linear_grad_squares needs it
  else if (!s.trans_a && !s.trans_b) run(gemm_kernel<Tile, false, false, false>);
  else if (!s.trans_a) run(gemm_kernel<Tile, false, true, false>);
  else if (!s.trans_b) run(gemm_kernel<Tile, true, false, false>);
  else run(gemm_kernel<Tile, true, true, false>);
}

template <bool Squared, class T>
void own_gemm(Device& device, const GemmShape& s, const T* a, const T* b, T* c) {
  const int m = to_count(s.m, "rows of a matrix"), n = to_count(s.n, "columns of a matrix");
  const int k = to_count(s.k, "terms of a sum");
  with_tiles<T>(device, [&](auto tiles) {
    using Large = typename decltype(tiles)::Large;
    using Small = typename decltype(tiles)::Small;
    const Tiling tiling =
        choose_tiling(size_of_tile<Large>(1), size_of_tile<Small>(1.35), device.properties().multiprocessors, s.batch,
                      m, n, (s.k + Large::k - 1) / Large::k, (s.k + Small::k - 1) / Small::k,
                      parts_that_fit(s.batch * s.m * s.n, sizeof(T)));
    Product<T> p{a,
                 b,
                 c,
                 m,
                 n,
                 k,
                 s.lda,
                 s.ldb,
                 s.ldc,
                 s.stride_a,
                 s.stride_b,
                 s.stride_c,
                 0,
                 static_cast<T>(s.alpha),
                 static_cast<T>(s.beta),
                 is_aligned<T>(a, {s.lda, s.batch > 1 ? s.stride_a : 0}),
                 is_aligned<T>(b, {s.ldb, s.batch > 1 ? s.stride_b : 0}),
                 is_aligned<T>(c, {s.ldc, s.batch > 1 ? s.stride_c : 0}),
                 to_count(s.batch, "matrices"),
                 static_cast<int>(tiling.tiles_m),
                 static_cast<int>(tiling.tiles_n),
                 static_cast<int>(tiling.steps)};
    if (tiling.parts > 1) {
      p.c = device.workspace<T>(Slot::gemm, tiling.parts * s.batch * s.m * s.n);
      p.ldc = s.n, p.stride_c = s.m * s.n, p.stride_part = s.batch * s.m * s.n;
      p.alpha = T(1), p.beta = T(0);
      p.aligned_c = is_aligned<T>(p.c, {p.ldc, p.stride_c, p.stride_part});
    }
    if (tiling.large) start<Large, Squared>(device, s, tiling, p);
    else start<Small, Squared>(device, s, tiling, p);
    if (tiling.parts > 1) {
      add_parts<T>(device, tiling.parts, s.batch, s.m, s.n, static_cast<T>(s.alpha), static_cast<T>(s.beta),
                   {s.stride_c, s.ldc}, p.c, c);
    }
  });
}

}  // namespace

void gemm(Device& device, const GemmShape& s, const Tensor& a, const Tensor& b, const Tensor& c) {
  if (c.dtype == DType::f32) multiply(device, s, a.as<const float>(), b.as<const float>(), c.as<float>());
  else multiply(device, s, a.as<const double>(), b.as<const double>(), c.as<double>());
}

template <class T>
void multiply(Device& device, const GemmShape& s, const T* a, const T* b, T* c) {
  if (s.batch == 0 || s.m == 0 || s.n == 0) return;
  if (s.k > 0 && cublas_gemm(device, s, a, b, c)) return;
  own_gemm<false>(device, s, a, b, c);
}

template <class T>
void multiply_squares(Device& device, const GemmShape& s, const T* a, const T* b, T* c) {
  if (s.m == 0 || s.n == 0) return;
  own_gemm<true>(device, s, a, b, c);
}

template void multiply<float>(Device&, const GemmShape&, const float*, const float*, float*);
template void multiply<double>(Device&, const GemmShape&, const double*, const double*, double*);
template void multiply_squares<float>(Device&, const GemmShape&, const float*, const float*, float*);
template void multiply_squares<double>(Device&, const GemmShape&, const double*, const double*, double*);

}  // namespace palimpsest::cuda
