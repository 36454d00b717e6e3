// Maximum and average pooling with their adjoints, channels-last: every inner loop runs over channels.
#include "cpu/pool.h"

#include <algorithm>
#include <limits>

#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/threads.h"

namespace palimpsest::cpu {
namespace {

// Kernel positions [first, last) that read inside an axis of `size`.
struct Range {
  int64_t first, last;
};
Range inside(int64_t start, int64_t kernel, int64_t dilation, int64_t size) {
  const int64_t first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  const int64_t last = start >= size ? 0 : std::min(kernel, (size - start + dilation - 1) / dilation);
  return {first, std::max(first, last)};
}

// Calls body(n, i, j, rows, columns) for the windows of lines (n, i) in [begin, end).
template <class Body>
void for_windows(const ConvShape& s, int64_t begin, int64_t end, Body body) {
  for (int64_t line = begin; line < end; ++line) {
    const int64_t n = line / s.oh, i = line % s.oh;
    const Range rows = inside(i * s.stride_h - s.pad_top, s.kh, s.dilation_h, s.h);
    for (int64_t j = 0; j < s.ow; ++j) {
      body(n, i, j, rows, inside(j * s.stride_w - s.pad_left, s.kw, s.dilation_w, s.w));
    }
  }
}

// body(h w + w) for every position of a window that lies inside the image.
template <class Body>
void for_positions(const ConvShape& s, int64_t i, int64_t j, Range rows, Range columns, Body body) {
  for (int64_t kh = rows.first; kh < rows.last; ++kh) {
    const int64_t h = i * s.stride_h - s.pad_top + kh * s.dilation_h;
    for (int64_t kw = columns.first; kw < columns.last; ++kw) {
      body(h * s.w + j * s.stride_w - s.pad_left + kw * s.dilation_w);
    }
  }
}

double pool_work(const ConvShape& s) { return static_cast<double>(s.n) * s.oh * s.ow * s.c * s.kh * s.kw / 2; }

template <typename T>
T window_scale(const ConvShape& s, bool count_pads, Range rows, Range columns) {
  const int64_t count = count_pads ? s.kh * s.kw : (rows.last - rows.first) * (columns.last - columns.first);
  return count == 0 ? T(0) : T(1) / static_cast<T>(count);
}

}  // namespace

template <typename T>
void max_pool(const ConvShape& s, const T* x, T* y, int32_t* index) {
  const TypedKernels<T>& kernels = typed_kernels<T>();
  // Of the image: a window may be far larger, by pads, and positions in those are not kept.
  const int64_t window = std::min(s.kh, s.h) * std::min(s.kw, s.w);
  const T** sources = workspace<const T*>(Slot::pool, thread_count() * (window + 8));
  int32_t* all_places = workspace<int32_t>(Slot::pool_places, thread_count() * (window + 16));
  parallel_for(s.n * s.oh, pool_work(s), [&](int64_t begin, int64_t end, int thread) {
    const T** from = sources + thread * (window + 8);
    int32_t* places = all_places + thread * (window + 16);
    for_windows(s, begin, end, [&](int64_t n, int64_t i, int64_t j, Range rows, Range columns) {
      const T* image = x + n * s.h * s.w * s.c;
      T* best = y + ((n * s.oh + i) * s.ow + j) * s.c;
      int32_t* at = index + ((n * s.oh + i) * s.ow + j) * s.c;
      int64_t count = 0;
      for_positions(s, i, j, rows, columns, [&](int64_t position) {
        from[count] = image + position * s.c;
        places[count++] = static_cast<int32_t>(position);
      });
      if (count > 0) return kernels.max_pool(count, from, places, s.c, best, at);
      std::fill_n(best, s.c, -std::numeric_limits<T>::infinity());  // a window of pads only
      std::fill_n(at, s.c, -1);
    });
  });
}

template <typename T>
void pool_gather(const ConvShape& s, const T* x, const int32_t* index, T* y) {
  const int64_t outputs = s.oh * s.ow * s.c;
  parallel_for(s.n * s.oh, static_cast<double>(s.n) * outputs, [&](int64_t begin, int64_t end, int) {
    for (int64_t line = begin; line < end; ++line) {
      const T* image = x + line / s.oh * s.h * s.w * s.c;
      for (int64_t e = line * s.ow * s.c; e < (line + 1) * s.ow * s.c; e += s.c) {
        for (int64_t c = 0; c < s.c; ++c) y[e + c] = index[e + c] < 0 ? T(0) : image[index[e + c] * s.c + c];
      }
    }
  });
}

template <typename T>
void pool_scatter(const ConvShape& s, const T* y_bar, const int32_t* index, T* x_bar) {
  const int64_t inputs = s.h * s.w * s.c, outputs = s.oh * s.ow * s.c;
  // Windows overlap within an image and a channel only: shares are (image, channels) pairs.
  const int64_t strip = 64, strips = (s.c + strip - 1) / strip;
  parallel_for(s.n * strips, static_cast<double>(s.n) * (inputs + 2 * outputs), [&](int64_t begin, int64_t end, int) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t n = unit / strips, first = unit % strips * strip, last = std::min(s.c, first + strip);
      T* image = x_bar + n * inputs;
      for (int64_t p = 0; p < s.h * s.w; ++p) std::fill(image + p * s.c + first, image + p * s.c + last, T(0));
      for (int64_t e = n * outputs; e < (n + 1) * outputs; e += s.c) {
        for (int64_t c = first; c < last; ++c) {
          if (index[e + c] >= 0) image[index[e + c] * s.c + c] += y_bar[e + c];
        }
      }
    }
  });
}

template <typename T>
void average_pool(const ConvShape& s, bool count_pads, const T* x, T* y) {
  parallel_for(s.n * s.oh, pool_work(s), [&](int64_t begin, int64_t end, int) {
    for_windows(s, begin, end, [&](int64_t n, int64_t i, int64_t j, Range rows, Range columns) {
      const T* image = x + n * s.h * s.w * s.c;
      T* to = y + ((n * s.oh + i) * s.ow + j) * s.c;
      std::fill_n(to, s.c, T(0));
      for_positions(s, i, j, rows, columns, [&](int64_t position) {
        const T* from = image + position * s.c;
        for (int64_t c = 0; c < s.c; ++c) to[c] += from[c];
      });
      const T scale = window_scale<T>(s, count_pads, rows, columns);
      for (int64_t c = 0; c < s.c; ++c) to[c] *= scale;
    });
  });
}

template <typename T>
void average_pool_gradient(const ConvShape& s, bool count_pads, const T* y_bar, T* x_bar) {
  parallel_for(s.n, pool_work(s), [&](int64_t begin, int64_t end, int) {
    std::fill(x_bar + begin * s.h * s.w * s.c, x_bar + end * s.h * s.w * s.c, T(0));
    for_windows(s, begin * s.oh, end * s.oh, [&](int64_t n, int64_t i, int64_t j, Range rows, Range columns) {
      T* image = x_bar + n * s.h * s.w * s.c;
      const T* from = y_bar + ((n * s.oh + i) * s.ow + j) * s.c;
      const T scale = window_scale<T>(s, count_pads, rows, columns);
      for_positions(s, i, j, rows, columns, [&](int64_t position) {
        T* to = image + position * s.c;
        for (int64_t c = 0; c < s.c; ++c) to[c] += scale * from[c];
      });
    });
  });
}

template void max_pool<float>(const ConvShape&, const float*, float*, int32_t*);
template void max_pool<double>(const ConvShape&, const double*, double*, int32_t*);
template void pool_gather<float>(const ConvShape&, const float*, const int32_t*, float*);
template void pool_gather<double>(const ConvShape&, const double*, const int32_t*, double*);
template void pool_scatter<float>(const ConvShape&, const float*, const int32_t*, float*);
template void pool_scatter<double>(const ConvShape&, const double*, const int32_t*, double*);
template void average_pool<float>(const ConvShape&, bool, const float*, float*);
template void average_pool<double>(const ConvShape&, bool, const double*, double*);
template void average_pool_gradient<float>(const ConvShape&, bool, const float*, float*);
template void average_pool_gradient<double>(const ConvShape&, bool, const double*, double*);

}  // namespace palimpsest::cpu
