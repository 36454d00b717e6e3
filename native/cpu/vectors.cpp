// Products and updates of parameter vectors, in pieces of a fixed size, so that no result depends on the threads.
#include "cpu/vectors.h"

#include <algorithm>

#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/threads.h"
#include "cpu/types.h"

namespace palimpsest::cpu {
namespace {

constexpr int64_t piece = 4096;

// body(begin, count) for the pieces of [0, n).
template <class Body>
void for_pieces(int64_t n, Body body) {
  const int64_t pieces = (n + piece - 1) / piece;
  parallel_for(pieces, static_cast<double>(n) / 2, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) body(p * piece, std::min(piece, n - p * piece));
  });
}

int64_t same_count(const char* kernel, const Tensor& x, const Tensor& y) {
  const int64_t n = element_count(y.dims);
  if (element_count(x.dims) != n) {
    throw Error(ErrorCode::shape, std::string("expected vectors of one length for ") + kernel + ", got " +
                                      to_string(x.dims) + " and " + to_string(y.dims));
  }
  return n;
}

template <typename X, typename Y>
double dot_piece(const X* x, const Y* y, int64_t n) {
  if constexpr (std::is_same_v<X, Y>) {
    return typed_kernels<X>().dot(x, y, n);
  } else {
    double total[4] = {};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
      for (int u = 0; u < 4; ++u) total[u] += static_cast<double>(x[i + u]) * static_cast<double>(y[i + u]);
    }
    for (; i < n; ++i) total[0] += static_cast<double>(x[i]) * static_cast<double>(y[i]);
    return (total[0] + total[1]) + (total[2] + total[3]);
  }
}

}  // namespace

double dot(const Tensor& x, const Tensor& y) {
  const int64_t n = same_count("dot", x, y);
  double* partial = workspace<double>(Slot::reduction, n / piece + 1);
  with_float("dot", x.dtype, [&](auto from) {
    with_float("dot", y.dtype, [&](auto to) {
      using X = decltype(from);
      using Y = decltype(to);
      for_pieces(n, [&](int64_t begin, int64_t count) {
        partial[begin / piece] = dot_piece(x.as<const X>() + begin, y.as<const Y>() + begin, count);
      });
    });
  });
  double total = 0;
  for (int64_t p = 0; p * piece < n; ++p) total += partial[p];
  return total;
}

void axpy(double alpha, const Tensor& x, const Tensor& y) {
  const int64_t n = same_count("axpy", x, y);
  with_float("axpy", x.dtype, [&](auto from) {
    with_float("axpy", y.dtype, [&](auto to) {
      using X = decltype(from);
      using Y = decltype(to);
      for_pieces(n, [&](int64_t begin, int64_t count) {
        const X* source = x.as<const X>() + begin;
        Y* target = y.as<Y>() + begin;
        if constexpr (std::is_same_v<X, Y>) {
          typed_kernels<X>().axpy(static_cast<X>(alpha), source, target, count);
        } else {
          for (int64_t i = 0; i < count; ++i) target[i] = static_cast<Y>(target[i] + alpha * source[i]);
        }
      });
    });
  });
}

void scale(double alpha, const Tensor& y) {
  const int64_t n = element_count(y.dims);
  with_float("scale", y.dtype, [&](auto zero) {
    using T = decltype(zero);
    for_pieces(n, [&](int64_t begin, int64_t count) {
      T* target = y.as<T>() + begin;
      typed_kernels<T>().shift_scale(target, T(0), static_cast<T>(alpha), target, count);
    });
  });
}

void sgd_step(const SgdStep& step, const Tensor& gradient, const Tensor& velocity, const Tensor& w) {
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
    for_pieces(n, [&](int64_t begin, int64_t count) {
      typed_kernels<T>().sgd(static_cast<T>(step.rate), static_cast<T>(step.momentum),
                             static_cast<T>(step.weight_decay), step.nesterov, gradient.as<const T>() + begin,
                             has_velocity ? velocity.as<T>() + begin : nullptr, w.as<T>() + begin, count);
    });
  });
}

}  // namespace palimpsest::cpu
