// The scalar functions of elementwise programs with their derivatives, on the device.
#pragma once

#include <cuda_runtime.h>

#include "backend/elementwise.h"

namespace palimpsest::cuda {

// d1 is f' b and d2 is f'' b; b meets a kink's zero by selection, so that no NaN or infinity of b passes a closed gate.

template <class T>
__device__ __forceinline__ T exp_of(T x) {
  return ::exp(x);
}
template <>
__device__ __forceinline__ float exp_of(float x) {
  return ::expf(x);
}

// What is more than a few instructions is called, not inlined: a program's steps are switched over at run time, and all
// that they may do would stand in every kernel.
template <class T>
struct Function {
  T alpha, beta;

  static __device__ __forceinline__ T magnitude(T x) { return x < 0 ? -x : x; }
  // e^-|x| never overflows, and keeps the small side's relative accuracy.
  static __device__ T sigmoid(T x) {
    const T e = exp_of(-magnitude(x));
    return (x < 0 ? e : T(1)) / (1 + e);
  }
  // s (1 - s) without cancellation: e / (1 + e)^2
  static __device__ T sigmoid_slope(T x) {
    const T e = exp_of(-magnitude(x));
    return e / ((1 + e) * (1 + e));
  }
  // 1 - tanh^2 without cancellation: 4 e / (1 + e)^2 with e = e^{-2|x|}
  static __device__ T tanh_slope(T x) {
    const T e = exp_of(-2 * magnitude(x));
    return 4 * e / ((1 + e) * (1 + e));
  }
  // (1 + erf(x / sqrt 2)) / 2
  static __device__ T cumulative(T x) { return T(0.5) + T(0.5) * ::erf(x * T(0.70710678118654752440)); }
  static __device__ T density(T x) { return T(0.39894228040143267794) * exp_of(T(-0.5) * x * x); }

  static __device__ T power(T x, T e) {
    if (e == 0) return 1;
    if (e == 1) return x;
    if (e == 2) return x * x;
    if (e == 3) return x * x * x;
    if (e == -1) return 1 / x;
    if (e == -2) return 1 / (x * x);
    return ::pow(x, e);
  }

  __device__ __noinline__ T value(Unary unary, T x) const {
    switch (unary) {
      case Unary::elu: return x > 0 ? x : alpha * ::expm1(x);
      case Unary::sigmoid: return sigmoid(x);
      case Unary::tanh: return ::tanh(x);
      case Unary::gelu: return x * cumulative(x);
      case Unary::gelu_tanh: return T(0.5) * x * (1 + ::tanh(gelu_inner(x)));
      case Unary::silu: return x * sigmoid(x);
      case Unary::mish: return x * mish_parts(x).t;
      case Unary::softplus: return (x < 0 ? T(0) : x) + ::log1p(exp_of(-magnitude(x)));
      case Unary::softsign: return x / (1 + magnitude(x));
      case Unary::sqrt: return ::sqrt(x);
      case Unary::pow: return power(x, alpha);
      case Unary::exp: return exp_of(x);
      case Unary::log: return ::log(x);
      case Unary::erf: return ::erf(x);
      default: return 1 / x;  // reciprocal
    }
  }

  __device__ __noinline__ T first(Unary unary, T x, T b) const {
    switch (unary) {
      case Unary::elu: return x > 0 ? b : alpha * exp_of(x) * b;
      case Unary::sigmoid: return sigmoid_slope(x) * b;
      case Unary::tanh: return tanh_slope(x) * b;
      case Unary::gelu: return (cumulative(x) + x * density(x)) * b;
      case Unary::gelu_tanh: {
        const T u = gelu_inner(x);
        return (T(0.5) * (1 + ::tanh(u)) + T(0.5) * x * tanh_slope(u) * gelu_inner_slope(x)) * b;
      }
      case Unary::silu: return (sigmoid(x) + x * sigmoid_slope(x)) * b;
      case Unary::mish: {
        const Parts p = mish_parts(x);
        return (p.t + x * p.slope * sigmoid(x)) * b;
      }
      case Unary::softplus: return sigmoid(x) * b;
      case Unary::softsign: {
        const T r = 1 / (1 + magnitude(x));
        return r * r * b;
      }
      case Unary::sqrt: return T(0.5) / ::sqrt(x) * b;
      case Unary::pow: return alpha == 0 ? T(0) : alpha * power(x, alpha - 1) * b;
      case Unary::exp: return exp_of(x) * b;
      case Unary::log: return b / x;
      case Unary::erf: return erf_slope(x) * b;
      default: return -b / (x * x);  // reciprocal
    }
  }

  __device__ __noinline__ T second(Unary unary, T x, T b) const {
    switch (unary) {
      case Unary::elu: return x > 0 ? T(0) : alpha * exp_of(x) * b;
      case Unary::sigmoid: {
        const T e = exp_of(-magnitude(x)), away = (1 - e) / (1 + e);
        return sigmoid_slope(x) * (x > 0 ? -away : away) * b;  // 1 - 2 s
      }
      case Unary::tanh: return -2 * ::tanh(x) * tanh_slope(x) * b;
      case Unary::gelu: return density(x) * (2 - x * x) * b;
      case Unary::gelu_tanh: {
        const T u = gelu_inner(x), du = gelu_inner_slope(x), ddu = 6 * gelu_k * gelu_c * x;
        return tanh_slope(u) * (du + T(0.5) * x * (ddu - 2 * ::tanh(u) * du * du)) * b;
      }
      case Unary::silu: return sigmoid_slope(x) * (2 + x * (1 - 2 * sigmoid(x))) * b;
      case Unary::mish: {
        const Parts p = mish_parts(x);
        const T s = sigmoid(x), dt = p.slope * s;
        return (2 * dt + x * (p.slope * sigmoid_slope(x) - 2 * p.t * dt * s)) * b;
      }
      case Unary::softplus: return sigmoid_slope(x) * b;
      case Unary::softsign: {
        const T r = 1 / (1 + magnitude(x)), curve = 2 * r * r * r;
        return x == 0 ? T(0) : (x > 0 ? -curve : curve) * b;
      }
      case Unary::sqrt: return T(-0.25) / (x * ::sqrt(x)) * b;
      case Unary::pow: return alpha == 0 || alpha == 1 ? T(0) : alpha * (alpha - 1) * power(x, alpha - 2) * b;
      case Unary::exp: return exp_of(x) * b;
      case Unary::log: return -b / (x * x);
      case Unary::erf: return -2 * x * erf_slope(x) * b;
      default: return 2 * b / (x * x * x);  // reciprocal
    }
  }

 private:
  static constexpr T gelu_k = T(0.79788456080286535588), gelu_c = T(0.044715);
  // u = sqrt(2/pi) (x + 0.044715 x^3)
  static __device__ T gelu_inner(T x) { return gelu_k * (x + gelu_c * x * x * x); }
  static __device__ T gelu_inner_slope(T x) { return gelu_k * (1 + 3 * gelu_c * x * x); }

  // t = tanh(softplus(x)) = m / (m + 2) with m = e^2x + 2 e^x; slope = 1 - t^2 = 4 (1 + e^x)^2 / (m + 2)^2
  struct Parts {
    T t, slope;
  };
  static __device__ Parts mish_parts(T x) {
    // Above 40 t is 1 in either precision and m would overflow.
    const T e = exp_of(x > 40 ? T(40) : x);
    const T m = e * (e + 2), q = 2 * (1 + e) / (m + 2);
    return {m / (m + 2), q * q};
  }
  static __device__ T erf_slope(T x) { return T(1.12837916709551257390) * exp_of(-x * x); }
};

}  // namespace palimpsest::cuda
