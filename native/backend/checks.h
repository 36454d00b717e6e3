// What every backend refuses: types and dimensions that a kernel of the table cannot take.
#pragma once

#include <string>

#include "backend/backend.h"
#include "core/error.h"

namespace palimpsest::checks {

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

inline void expect_count(const char* what, int64_t expected, const Tensor& tensor) {
  if (element_count(tensor.dims) == expected) return;
  throw Error(ErrorCode::shape,
              "expected " + std::to_string(expected) + " elements of " + what + ", got " + to_string(tensor.dims));
}

inline void expect_same_type(const char* kernel, const Tensor& a, const Tensor& b, const Tensor& c) {
  expect_type(kernel, a.dtype, b);
  expect_type(kernel, a.dtype, c);
}

// Throws ERR_SHAPE for a product whose rows would overlap, or a convolution or pooling that no tensors can have.
void check_gemm(const GemmShape& s);
void check_window(const ConvShape& s);
void check_conv(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y);
void check_pool(const ConvShape& s, const Tensor& x, const Tensor& y);
void check_channel_statistics(const Tensor& x, const Tensor& labels, const Tensor& sums);
void check_pool_index(const ConvShape& s, const Tensor& index);

}  // namespace palimpsest::checks
