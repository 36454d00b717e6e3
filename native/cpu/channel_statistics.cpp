// Mean positive response of each channel, example by example, then summed by class in the order of the rows.
#include "cpu/channel_statistics.h"

#include <algorithm>

#include "core/exact_sum.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/threads.h"
#include "cpu/types.h"

namespace palimpsest::cpu {
namespace {

constexpr int64_t channels_a_block = 64;

template <typename T>
bool counts(const T* labels, int64_t classes) {
  return std::any_of(labels, labels + classes, [](T label) { return label != 0; });
}

// means[n, c] of the rows that count for a class
template <typename T>
void response_means(const Tensor& x, const T* labels, int64_t classes, double* means) {
  const TypedKernels<T>& kernels = typed_kernels<T>();
  const int64_t channels = x.dims[1], positions = x.dims[2] * x.dims[3];
  parallel_for(x.dims[0], static_cast<double>(element_count(x.dims)) / 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      if (!counts(labels + n * classes, classes)) continue;
      double* sums = means + n * channels;
      std::fill_n(sums, channels, 0.0);
      kernels.add_positive_rows(x.as<const T>() + n * positions * channels, positions, channels, sums);
      for (int64_t c = 0; c < channels; ++c) sums[c] = channel_mean(sums[c], static_cast<double>(positions), T(0));
    }
  });
}

// pairs[k, c] = the sum of means[n, c] over the rows of class k, for channels [first, last)
template <typename T>
void sum_by_class(const double* means, const T* labels, int64_t rows, int64_t classes, int64_t channels, int64_t first,
                  int64_t last, DoublePair* pairs) {
  for (int64_t k = 0; k < classes; ++k)
    std::fill(pairs + k * channels + first, pairs + k * channels + last, DoublePair());
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t k = 0; k < classes; ++k) {
      if (labels[n * classes + k] == 0) continue;
      for (int64_t c = first; c < last; ++c) {
        pairs[k * channels + c] = add(pairs[k * channels + c], means[n * channels + c]);
      }
    }
  }
}

}  // namespace

void channel_statistics(const Tensor& x, const Tensor& labels, const Tensor& sums) {
  const int64_t rows = x.dims[0], channels = x.dims[1], classes = labels.dims[1], count = classes * channels;
  with_float("channel_statistics", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* marks = labels.as<const T>();
    double* means = workspace<double>(Slot::channel_means, rows * channels);
    DoublePair* pairs = workspace<DoublePair>(Slot::channel_sums, count);
    response_means<T>(x, marks, classes, means);
    const int64_t blocks = (channels + channels_a_block - 1) / channels_a_block;
    parallel_for(blocks, static_cast<double>(rows * channels) * 4, [&](int64_t begin, int64_t end, int) {
      sum_by_class<T>(means, marks, rows, classes, channels, begin * channels_a_block,
                      std::min(end * channels_a_block, channels), pairs);
    });
    T* to = sums.as<T>();
    for (int64_t i = 0; i < count; ++i) {
      T parts[3];
      split(pairs[i], parts);
      for (int64_t part = 0; part < 3; ++part) to[part * count + i] = parts[part];
    }
  });
}

}  // namespace palimpsest::cpu
