// Compensated products in plain loops over strips of columns.
#include "core/compensated.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "core/parallel.h"

namespace palimpsest {
namespace {

constexpr int64_t kStrip = 8;

// The leading 26 bits; what is left has at most 27, so products of two such halves are exact (but for low x low, which
// is off by 2^-106). By mask, because a compiler may not contract it.
double leading(double x) { return std::bit_cast<double>(std::bit_cast<uint64_t>(x) & ~uint64_t{0x7ffffff}); }

// One row of A times a strip [inner, kStrip] of B, given in halves.
void multiply_row(const double* a, int64_t inner, const double* __restrict b, const double* __restrict b_leading,
                  double* __restrict high, double* __restrict low) {
  double sum[kStrip] = {}, rest[kStrip] = {};
  for (int64_t k = 0; k < inner; ++k) {
    const double head = leading(a[k]);
    const double tail = a[k] - head;
    const double* y = b + k * kStrip;
    const double* y_head = b_leading + k * kStrip;
    for (int64_t s = 0; s < kStrip; ++s) {
      const double y_tail = y[s] - y_head[s];
      const double product = a[k] * y[s];
      const double product_rest = ((head * y_head[s] - product) + head * y_tail + tail * y_head[s]) + tail * y_tail;
      const double next = sum[s] + product;
      const double part = next - sum[s];
      rest[s] += ((sum[s] - (next - part)) + (product - part)) + product_rest;
      sum[s] = next;
    }
  }
  for (int64_t s = 0; s < kStrip; ++s) {
    high[s] = sum[s];
    low[s] = rest[s];
  }
}

}  // namespace

void multiply_compensated(const double* a, int64_t rows, int64_t inner, const double* b, int64_t columns, double* high,
                          double* low) {
  const size_t size = static_cast<size_t>(inner * kStrip);
  std::vector<double> strip(size), strip_leading(size);
  for (int64_t j0 = 0; j0 < columns; j0 += kStrip) {
    const int64_t width = std::min(kStrip, columns - j0);
    for (int64_t k = 0; k < inner; ++k) {
      for (int64_t s = 0; s < kStrip; ++s) {
        const double value = s < width ? b[k * columns + j0 + s] : 0.0;
        strip[static_cast<size_t>(k * kStrip + s)] = value;
        strip_leading[static_cast<size_t>(k * kStrip + s)] = leading(value);
      }
    }
    parallel_for(rows, 20.0 * static_cast<double>(rows * inner * width), [&](int64_t i) {
      double sum[kStrip], rest[kStrip];
      multiply_row(a + i * inner, inner, strip.data(), strip_leading.data(), sum, rest);
      for (int64_t s = 0; s < width; ++s) {
        high[i * columns + j0 + s] = sum[s];
        low[i * columns + j0 + s] = rest[s];
      }
    });
  }
}

}  // namespace palimpsest
