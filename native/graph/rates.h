// What a device reaches, measured: rates of its kernels, of copies, and what a call costs.
#pragma once

#include <array>

#include "backend/backend.h"

namespace palimpsest {

// Of one type, in FLOP/s, bytes/s and seconds.
struct Rates {
  double gemm = 0;     // 512 x 512 x 512
  double conv = 0;     // 3 x 3, 64 channels, 16 x 16 pixels, 8 rows
  double squares = 0;  // per-example squares of the same convolution
  static constexpr std::array<double, 3> copy_bytes = {1 << 18, 1 << 22, 1 << 25};  // read and written
  std::array<double, 3> copy = {};
  double call = 0;  // the shortest call of a kernel
};

constexpr int rate_count = 7;  // pieces that measure_rate measures one at a time

// Measures piece 0 to rate_count - 1: some 10 ms each.
void measure_rate(Backend& backend, DType dtype, int piece, Rates& rates);

// Bytes per second of passes over so many bytes, between the copies that were measured.
double bandwidth(const Rates& rates, double bytes);

}  // namespace palimpsest
