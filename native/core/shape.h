// Dimensions, strides and layouts of tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace palimpsest {

using Dims = std::vector<int64_t>;

// How a tensor of logical ONNX axes lies in memory. channels_last of [N, C, d1, d2, ...] is stored N, d1, d2, ..., C.
enum class Layout : uint8_t { row_major, channels_last };

// Product of dims; throws ERR_SHAPE where it overflows or a dimension is negative.
int64_t element_count(const Dims& dims);

// Strides in elements of dense storage, per logical axis.
Dims dense_strides(const Dims& dims, Layout layout = Layout::row_major);

// True where both layouts of these dims are the same memory (one channel, or one position).
bool layouts_coincide(const Dims& dims);

// NumPy broadcasting of two shapes; throws ERR_SHAPE naming both.
Dims broadcast_dims(const Dims& a, const Dims& b);

// Strides that read a tensor of `dims` and `strides` as `to` (broadcast axes get stride 0, missing leading axes too).
Dims broadcast_strides(const Dims& dims, const Dims& strides, const Dims& to);

// "[2, 3, 4]"
std::string to_string(const Dims& dims);

}  // namespace palimpsest
