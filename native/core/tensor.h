// A typed view of memory with logical dimensions; it owns nothing.
#pragma once

#include "core/shape.h"

namespace palimpsest {

enum class DType : uint8_t { f32, f64, i32 };

inline size_t size_of(DType dtype) { return dtype == DType::f64 ? 8 : 4; }

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::f32;
  Dims dims;
  Dims strides;  // in elements, per logical axis; 0 on broadcast axes

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

inline Tensor dense_tensor(void* data, DType dtype, Dims dims, Layout layout = Layout::row_major) {
  Dims strides = dense_strides(dims, layout);
  return {data, dtype, std::move(dims), std::move(strides)};
}

}  // namespace palimpsest
