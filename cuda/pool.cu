// Maximum and average pooling with their adjoints, channels-last: a thread an element of the result, channels side by
// side. Adjoints look for the windows that an input lies in, so nothing is added by two threads.
#include "cuda/pool.h"

#include <limits>

#include "backend/checks.h"
#include "cuda/launch.h"
#include "cuda/wide.h"

namespace palimpsest::cuda {

using namespace checks;

namespace {

// Positions [first, last) of a window's axis that read inside an axis of `size`.
struct Range {
  int64_t first, last;
};
__device__ __forceinline__ Range inside(int64_t start, int64_t kernel, int64_t dilation, int64_t size) {
  const int64_t first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  const int64_t most = (size - start + dilation - 1) / dilation;
  const int64_t last = start >= size ? 0 : most < kernel ? most : kernel;
  return {first, last > first ? last : first};
}

// Windows [first, last) of an axis that may reach position `at`.
__device__ __forceinline__ Range reaching(int64_t at, int64_t pad, int64_t kernel, int64_t stride, int64_t dilation,
                                          int64_t windows) {
  const int64_t low = at + pad - dilation * (kernel - 1);
  const int64_t first = low <= 0 ? 0 : (low + stride - 1) / stride;
  const int64_t most = (at + pad) / stride + 1;
  return {first, most < windows ? most : windows};
}

// n, i, j, c of element e of [n, height, width, c].
struct Place {
  int64_t n, i, j, c;
};
__device__ __forceinline__ Place place_of(int64_t e, int64_t height, int64_t width, int64_t channels) {
  if (e <= 0x7fffffff) {
    const uint32_t all = static_cast<uint32_t>(e), c = static_cast<uint32_t>(channels);
    const uint32_t w = static_cast<uint32_t>(width), h = static_cast<uint32_t>(height), at = all / c, line = at / w;
    return {line / h, line % h, at % w, all % c};
  }
  const int64_t at = e / channels, line = at / width;
  return {line / height, line % height, at % width, e % channels};
}

template <class T>
__global__ void max_pool_kernel(const ConvShape s, int64_t count, const T* x, T* y, int32_t* index) {
  for (int64_t e = first_item(); e < count; e += item_stride()) {
    const Place at = place_of(e, s.oh, s.ow, s.c);
    const Range rows = inside(at.i * s.stride_h - s.pad_top, s.kh, s.dilation_h, s.h);
    const Range columns = inside(at.j * s.stride_w - s.pad_left, s.kw, s.dilation_w, s.w);
    const T* image = x + at.n * s.h * s.w * s.c + at.c;
    T best = -std::numeric_limits<T>::infinity();
    int32_t first = -1;  // stays for a window of pads only
    for (int64_t kh = rows.first; kh < rows.last; ++kh) {
      const int64_t h = at.i * s.stride_h - s.pad_top + kh * s.dilation_h;
      for (int64_t kw = columns.first; kw < columns.last; ++kw) {
        const int64_t position = h * s.w + at.j * s.stride_w - s.pad_left + kw * s.dilation_w;
        const T value = image[position * s.c];
        if (first < 0 || value > best || (value != value && best == best)) {
          best = value;
          first = static_cast<int32_t>(position);
        }
      }
    }
    y[e] = best;
    index[e] = first;
  }
}

template <class T>
__global__ void pool_gather_kernel(const ConvShape s, int64_t count, const T* x, const int32_t* index, T* y) {
  for (int64_t e = first_item(); e < count; e += item_stride()) {
    const Place at = place_of(e, s.oh, s.ow, s.c);
    y[e] = index[e] < 0 ? T(0) : x[(at.n * s.h * s.w + index[e]) * s.c + at.c];
  }
}

template <class T>
__global__ void pool_scatter_kernel(const ConvShape s, int64_t count, const T* y_bar, const int32_t* index, T* x_bar) {
  for (int64_t e = first_item(); e < count; e += item_stride()) {
    const Place at = place_of(e, s.h, s.w, s.c);
    const Range rows = reaching(at.i, s.pad_top, s.kh, s.stride_h, s.dilation_h, s.oh);
    const Range columns = reaching(at.j, s.pad_left, s.kw, s.stride_w, s.dilation_w, s.ow);
    const int32_t position = static_cast<int32_t>(at.i * s.w + at.j);
    T sum = 0;
    for (int64_t i = rows.first; i < rows.last; ++i) {
      for (int64_t j = columns.first; j < columns.last; ++j) {
        const int64_t from = ((at.n * s.oh + i) * s.ow + j) * s.c + at.c;
        if (index[from] == position) sum += y_bar[from];
      }
    }
    x_bar[e] = sum;
  }
}

// 1 / (values of window i, j), 0 for one of pads only that do not count
template <class T>
__device__ __forceinline__ T window_scale(const ConvShape& s, bool count_pads, Range rows, Range columns) {
  const int64_t count = count_pads ? s.kh * s.kw : (rows.last - rows.first) * (columns.last - columns.first);
  return count == 0 ? T(0) : T(1) / static_cast<T>(count);
}

template <class T>
__global__ void average_pool_kernel(const ConvShape s, bool count_pads, int64_t count, const T* x, T* y) {
  for (int64_t e = first_item(); e < count; e += item_stride()) {
    const Place at = place_of(e, s.oh, s.ow, s.c);
    const Range rows = inside(at.i * s.stride_h - s.pad_top, s.kh, s.dilation_h, s.h);
    const Range columns = inside(at.j * s.stride_w - s.pad_left, s.kw, s.dilation_w, s.w);
    const T* image = x + at.n * s.h * s.w * s.c + at.c;
    T sum = 0;
    for (int64_t kh = rows.first; kh < rows.last; ++kh) {
      const int64_t h = at.i * s.stride_h - s.pad_top + kh * s.dilation_h;
      for (int64_t kw = columns.first; kw < columns.last; ++kw) {
        sum += image[(h * s.w + at.j * s.stride_w - s.pad_left + kw * s.dilation_w) * s.c];
      }
    }
    y[e] = sum * window_scale<T>(s, count_pads, rows, columns);
  }
}

// Whether window `i` of an axis has a tap on position `at`.
__device__ __forceinline__ bool touches(int64_t i, int64_t at, int64_t pad, int64_t stride, int64_t dilation) {
  return dilation == 1 || (at + pad - i * stride) % dilation == 0;
}

template <class T>
__global__ void average_pool_gradient_kernel(const ConvShape s, bool count_pads, int64_t count, const T* y_bar,
                                             T* x_bar) {
  for (int64_t e = first_item(); e < count; e += item_stride()) {
    const Place at = place_of(e, s.h, s.w, s.c);
    const Range rows = reaching(at.i, s.pad_top, s.kh, s.stride_h, s.dilation_h, s.oh);
    const Range columns = reaching(at.j, s.pad_left, s.kw, s.stride_w, s.dilation_w, s.ow);
    T sum = 0;
    for (int64_t i = rows.first; i < rows.last; ++i) {
      if (!touches(i, at.i, s.pad_top, s.stride_h, s.dilation_h)) continue;
      const Range taps = inside(i * s.stride_h - s.pad_top, s.kh, s.dilation_h, s.h);
      for (int64_t j = columns.first; j < columns.last; ++j) {
        if (!touches(j, at.j, s.pad_left, s.stride_w, s.dilation_w)) continue;
        const T scale =
            window_scale<T>(s, count_pads, taps, inside(j * s.stride_w - s.pad_left, s.kw, s.dilation_w, s.w));
        sum += scale * y_bar[((at.n * s.oh + i) * s.ow + j) * s.c + at.c];
      }
    }
    x_bar[e] = sum;
  }
}

// Starts a kernel with a thread for each of `count` elements.
template <class... Parameters, class... Arguments>
void for_elements(Device& device, const char* name, int64_t count, void (*kernel)(Parameters...),
                  const Arguments&... arguments) {
  launch(device, name, kernel, dim3(grid_of(count, threads_a_block, most_blocks)), dim3(threads_a_block), 0,
         arguments...);
}

int64_t inputs_of(const ConvShape& s) { return s.n * s.h * s.w * s.c; }
int64_t outputs_of(const ConvShape& s) { return s.n * s.oh * s.ow * s.c; }

}  // namespace

void max_pool(Device& device, const ConvShape& s, const Tensor& x, const Tensor& y, const Tensor& index) {
  with_float("max_pool", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_elements(device, "max_pool", outputs_of(s), max_pool_kernel<T>, s, outputs_of(s), x.as<const T>(), y.as<T>(),
                 index.as<int32_t>());
  });
}

void pool_gather(Device& device, const ConvShape& s, const Tensor& x, const Tensor& index, const Tensor& y) {
  with_float("pool_gather", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_elements(device, "pool_gather", outputs_of(s), pool_gather_kernel<T>, s, outputs_of(s), x.as<const T>(),
                 index.as<const int32_t>(), y.as<T>());
  });
}

void pool_scatter(Device& device, const ConvShape& s, const Tensor& y_bar, const Tensor& index, const Tensor& x_bar) {
  with_float("pool_scatter", y_bar.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_elements(device, "pool_scatter", inputs_of(s), pool_scatter_kernel<T>, s, inputs_of(s), y_bar.as<const T>(),
                 index.as<const int32_t>(), x_bar.as<T>());
  });
}

void average_pool(Device& device, const ConvShape& s, bool count_pads, const Tensor& x, const Tensor& y) {
  with_float("average_pool", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_elements(device, "average_pool", outputs_of(s), average_pool_kernel<T>, s, count_pads, outputs_of(s),
                 x.as<const T>(), y.as<T>());
  });
}

void average_pool_gradient(Device& device, const ConvShape& s, bool count_pads, const Tensor& y_bar,
                           const Tensor& x_bar) {
  with_float("average_pool_gradient", y_bar.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_elements(device, "average_pool_gradient", inputs_of(s), average_pool_gradient_kernel<T>, s, count_pads,
                 inputs_of(s), y_bar.as<const T>(), x_bar.as<T>());
  });
}

}  // namespace palimpsest::cuda
