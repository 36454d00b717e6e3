// From a tensor's type to a template argument, and the refusals that all kernels share.
#pragma once

#include <string>

#include "core/error.h"
#include "core/tensor.h"

namespace palimpsest::cpu {

inline const char* type_name(DType dtype) {
  return dtype == DType::f32 ? "float32" : dtype == DType::f64 ? "float64" : "int32";
}

// Calls body(float{}) or body(double{}).
template <class Body>
decltype(auto) with_float(const char* kernel, DType dtype, Body&& body) {
  if (dtype == DType::f32) return body(float{});
  if (dtype == DType::f64) return body(double{});
  throw Error(ErrorCode::invalid_argument,
              std::string("expected float32 or float64 for ") + kernel + ", got " + type_name(dtype));
}

// The same with int32 too.
template <class Body>
decltype(auto) with_any(DType dtype, Body&& body) {
  if (dtype == DType::f32) return body(float{});
  if (dtype == DType::f64) return body(double{});
  return body(int32_t{});
}

inline void expect_type(const char* kernel, DType expected, const Tensor& tensor) {
  if (tensor.dtype == expected) return;
  throw Error(ErrorCode::invalid_argument,
              std::string("expected ") + type_name(expected) + " for " + kernel + ", got " + type_name(tensor.dtype));
}

inline void expect_dims(const char* kernel, const Dims& expected, const Tensor& tensor) {
  if (tensor.dims == expected && tensor.strides.size() == expected.size()) return;
  throw Error(ErrorCode::shape, std::string("expected dimensions ") + to_string(expected) + " for " + kernel +
                                    ", got " + to_string(tensor.dims));
}

inline void expect_axis(const char* kernel, int axis, const Tensor& tensor) {
  if (axis >= 0 && axis < static_cast<int>(tensor.dims.size())) return;
  throw Error(ErrorCode::shape, std::string("expected an axis of ") + to_string(tensor.dims) + " for " + kernel +
                                    ", got " + std::to_string(axis));
}

}  // namespace palimpsest::cpu
