// Normal deviates as float64 numbers, one by one and by chunks.
#include "unlearn/gaussian_sampler.h"

#include <algorithm>

#include "core/parallel.h"

namespace palimpsest {

double NormalDeviate::value() const {
  const double size = static_cast<double>(integer) + static_cast<double>(fraction) * 0x1p-64;
  return negative ? -size : size;
}

uint64_t fill_normal(const SecretKey& key, uint64_t first_stream, std::span<double> out) {
  const int64_t count = static_cast<int64_t>(out.size());
  const int64_t chunks = (count + kNormalChunk - 1) / kNormalChunk;
  parallel_for(chunks, 500.0 * static_cast<double>(count), [&](int64_t chunk) {
    GaussianSampler sampler(key, first_stream + static_cast<uint64_t>(chunk));
    const int64_t end = std::min(count, (chunk + 1) * kNormalChunk);
    for (int64_t i = chunk * kNormalChunk; i < end; ++i) out[static_cast<size_t>(i)] = sampler.next();
  });
  return first_stream + static_cast<uint64_t>(chunks);
}

}  // namespace palimpsest
