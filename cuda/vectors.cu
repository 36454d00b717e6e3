// Vectors of parameters: dense, float64 sums in a fixed order.
#include "cuda/vectors.h"

#include "backend/checks.h"
#include "cuda/sums.h"
#include "cuda/wide.h"

namespace palimpsest::cuda {

using namespace checks;

namespace {

int64_t same_count(const char* kernel, const Tensor& x, const Tensor& y) {
  const int64_t n = element_count(y.dims);
  if (element_count(x.dims) != n) expect_dims(kernel, y.dims, x);
  return n;
}

// partial[block] = sum of x y over the block's terms
template <class X, class Y>
__global__ void dot_kernel(int64_t n, const X* x, const Y* y, double* partial) {
  double sum = 0;
#pragma unroll 4
  for (int64_t i = first_item(); i < n; i += item_stride())
    sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
  sum = block_sum<threads_a_block>(sum, static_cast<int>(threadIdx.x));
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void finish_dot_kernel(int64_t parts, const double* partial, double* result) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < parts; i += threads_a_block) sum += partial[i];
  sum = block_sum<threads_a_block>(sum, static_cast<int>(threadIdx.x));
  if (threadIdx.x == 0) *result = sum;
}

// y += alpha x, in the wider of the two types
template <class X, class Y, int width>
__global__ void axpy_kernel(int64_t wides, int64_t n, double alpha, const X* x, Y* y) {
  using A = decltype(X() * Y());
  const A a = static_cast<A>(alpha);
  for (int64_t e = first_item(); e < wides; e += item_stride()) {
    const Wide<X, width> from = reinterpret_cast<const Wide<X, width>*>(x)[e];
    Wide<Y, width>* to = reinterpret_cast<Wide<Y, width>*>(y) + e;
    Wide<Y, width> value = *to;
#pragma unroll
    for (int i = 0; i < width; ++i) value.at[i] = static_cast<Y>(value.at[i] + a * from.at[i]);
    *to = value;
  }
  for (int64_t e = wides * width + first_item(); e < n; e += item_stride()) y[e] = static_cast<Y>(y[e] + a * x[e]);
}

template <class T>
__global__ void scale_kernel(int64_t wides, int64_t n, T alpha, T* y) {
  constexpr int width = wide_count<T>;
  for (int64_t e = first_item(); e < wides; e += item_stride()) {
    Wide<T, width>* to = reinterpret_cast<Wide<T, width>*>(y) + e;
    Wide<T, width> value = *to;
#pragma unroll
    for (int i = 0; i < width; ++i) value.at[i] *= alpha;
    *to = value;
  }
  for (int64_t e = wides * width + first_item(); e < n; e += item_stride()) y[e] *= alpha;
}

template <class T>
struct Sgd {
  T rate, momentum, weight_decay;
  bool nesterov;
};

// g += weight_decay w; v = momentum v + g; w -= rate (nesterov ? g + momentum v : v)
template <class T>
__global__ void sgd_kernel(int64_t n, Sgd<T> step, const T* gradient, T* velocity, T* w) {
  for (int64_t i = first_item(); i < n; i += item_stride()) {
    const T g = gradient[i] + step.weight_decay * w[i];
    T direction = g;
    if (velocity != nullptr) {
      const T v = step.momentum * velocity[i] + g;
      velocity[i] = v;
      direction = step.nesterov ? g + step.momentum * v : v;
    }
    w[i] -= step.rate * direction;
  }
}

dim3 grid_for(int64_t wides, int64_t n, int width) {
  return dim3(grid_of(std::max(wides, n - wides * width), threads_a_block, most_blocks));
}

}  // namespace

double dot(Device& device, const Tensor& x, const Tensor& y) {
  const int64_t n = same_count("dot", x, y);
  // A fixed cut, so that the bits depend on the length alone.
  const int64_t parts = std::min<int64_t>((n + 4095) / 4096, 1024);
  double* partial = device.workspace<double>(Slot::vectors, std::max<int64_t>(parts, 1));
  with_float("dot", x.dtype, [&](auto of_x) {
    with_float("dot", y.dtype, [&](auto of_y) {
      using X = decltype(of_x);
      using Y = decltype(of_y);
      launch(device, "a dot product", dot_kernel<X, Y>, dim3(static_cast<unsigned>(parts)), dim3(threads_a_block), 0, n,
             x.as<const X>(), y.as<const Y>(), partial);
    });
  });
  launch(device, "a dot product", finish_dot_kernel, dim3(1), dim3(threads_a_block), 0, parts, partial,
         device.number());
  return device.wait_for_number();
}

void axpy(Device& device, double alpha, const Tensor& x, const Tensor& y) {
  const int64_t n = same_count("axpy", x, y);
  with_float("axpy", x.dtype, [&](auto of_x) {
    with_float("axpy", y.dtype, [&](auto of_y) {
      using X = decltype(of_x);
      using Y = decltype(of_y);
      constexpr int width = std::min(wide_count<X>, wide_count<Y>);
      const int64_t wides = is_wide(x.data) && is_wide(y.data) ? n / width : 0;
      launch(device, "axpy", axpy_kernel<X, Y, width>, grid_for(wides, n, width), dim3(threads_a_block), 0, wides, n,
             alpha, x.as<const X>(), y.as<Y>());
    });
  });
}

void scale(Device& device, double alpha, const Tensor& y) {
  const int64_t n = element_count(y.dims);
  with_float("scale", y.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t wides = is_wide(y.data) ? n / wide_count<T> : 0;
    launch(device, "scale", scale_kernel<T>, grid_for(wides, n, wide_count<T>), dim3(threads_a_block), 0, wides, n,
           static_cast<T>(alpha), y.as<T>());
  });
}

void sgd_step(Device& device, const SgdStep& step, const Tensor& gradient, const Tensor& velocity, const Tensor& w) {
  const int64_t n = same_count("sgd_step", gradient, w);
  expect_type("the gradient of sgd_step", w.dtype, gradient);
  const bool has_velocity = velocity.data != nullptr;
  if (has_velocity) {
    same_count("sgd_step", velocity, w);
    expect_type("the velocity of sgd_step", w.dtype, velocity);
  } else if (step.momentum != 0) {
    throw Error(ErrorCode::invalid_argument,
                "expected a velocity for sgd_step with momentum " + std::to_string(step.momentum) + ", got none");
  }
  with_float("sgd_step", w.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Sgd<T> in_type{static_cast<T>(step.rate), static_cast<T>(step.momentum), static_cast<T>(step.weight_decay),
                         step.nesterov};
    launch(device, "a step of SGD", sgd_kernel<T>, dim3(grid_of(n, threads_a_block, most_blocks)),
           dim3(threads_a_block), 0, n, in_type, gradient.as<const T>(), has_velocity ? velocity.as<T>() : nullptr,
           w.as<T>());
  });
}

}  // namespace palimpsest::cuda
