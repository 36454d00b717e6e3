// Rates by short runs of the kernels themselves: the quickest of a few, after one that warms up.
#include "graph/rates.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "graph/clock.h"

namespace palimpsest {

namespace {

// A tensor of the device, some value in it that no kernel is slow on.
class Operand {
 public:
  Operand(Backend& backend, DType dtype, Dims dims, Layout layout = Layout::row_major) : backend_(backend) {
    const size_t bytes = static_cast<size_t>(element_count(dims)) * size_of(dtype);
    tensor_ = dense_tensor(backend.allocate(bytes), dtype, std::move(dims), layout);
    backend.fill(tensor_, 0.5);
  }
  ~Operand() { backend_.release(tensor_.data); }
  Operand(const Operand&) = delete;
  Operand& operator=(const Operand&) = delete;
  operator const Tensor&() const { return tensor_; }

 private:
  Backend& backend_;
  Tensor tensor_;
};

// Seconds of one run.
double quickest(Backend& backend, const std::function<void()>& run) {
  constexpr double most_seconds = 0.01;
  const int threads = backend.settings().threads;
  run();
  backend.synchronize();
  double best = std::numeric_limits<double>::infinity(), spent = 0;
  for (int i = 0; i < 50 && (i < 3 || spent < most_seconds); ++i) {
    const double start = clock_seconds(threads);
    run();
    backend.synchronize();
    const double took = clock_seconds(threads) - start;
    best = std::min(best, took);
    spent += took;
  }
  return best;
}

// 2 M K N
double gemm_rate(Backend& backend, DType dtype) {
  constexpr int64_t n = 512;
  const Operand a(backend, dtype, {n, n}), b(backend, dtype, {n, n}), c(backend, dtype, {n, n});
  GemmShape s;
  s.m = s.n = s.k = s.lda = s.ldb = s.ldc = n;
  return 2.0 * n * n * n / quickest(backend, [&] { backend.gemm(s, a, b, c); });
}

// 2 N OH OW O C KH KW
double conv_rate(Backend& backend, DType dtype, bool squares) {
  constexpr int64_t n = 8, c = 64, size = 16, k = 3;
  ConvShape s;
  s.n = n, s.c = s.o = c, s.h = s.w = s.oh = s.ow = size, s.kh = s.kw = k, s.pad_top = s.pad_left = 1;
  const Operand x(backend, dtype, {n, c, size, size}, Layout::channels_last), w(backend, dtype, {c, c, k, k}),
      y(backend, dtype, {n, c, size, size}, Layout::channels_last);
  const double seconds = quickest(backend, [&] {
    if (squares) {
      backend.conv_grad_squares(s, x, y, w);
    } else {
      backend.conv(s, x, w, y);
    }
  });
  return 2.0 * n * size * size * c * c * k * k / seconds;
}

double copy_seconds(Backend& backend, DType dtype, double bytes) {
  const int64_t count = static_cast<int64_t>(bytes / 2) / static_cast<int64_t>(size_of(dtype));
  const Operand x(backend, dtype, {count}), y(backend, dtype, {count});
  return quickest(backend, [&] { backend.copy(x, y); });
}

}  // namespace

void measure_rate(Backend& backend, DType dtype, int piece, Rates& rates) {
  if (piece == 0) rates.gemm = gemm_rate(backend, dtype);
  if (piece == 1) rates.conv = conv_rate(backend, dtype, false);
  if (piece == 2) rates.squares = conv_rate(backend, dtype, true);
  if (piece >= 3 && piece < 6) {
    const size_t i = static_cast<size_t>(piece - 3);
    rates.copy[i] = Rates::copy_bytes[i] / copy_seconds(backend, dtype, Rates::copy_bytes[i]);
  }
  if (piece == 6) rates.call = copy_seconds(backend, dtype, 128);
}

double bandwidth(const Rates& rates, double bytes) {
  const auto& sizes = Rates::copy_bytes;
  if (bytes <= sizes.front()) return rates.copy.front();
  for (size_t i = 1; i < sizes.size(); ++i) {
    if (bytes > sizes[i]) continue;
    const double share = std::log(bytes / sizes[i - 1]) / std::log(sizes[i] / sizes[i - 1]);
    return rates.copy[i - 1] + share * (rates.copy[i] - rates.copy[i - 1]);
  }
  return rates.copy.back();
}

}  // namespace palimpsest
