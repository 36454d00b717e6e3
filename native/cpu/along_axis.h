// Reading and writing positions along an axis, and softmax.
#pragma once

#include <span>

#include "core/tensor.h"

namespace palimpsest::cpu {

void take_along_axis(const Tensor& x, const Tensor& index, int axis, const Tensor& y);
void put_along_axis(const Tensor& y_bar, const Tensor& index, int axis, const Tensor& x_bar);
void gather(const Tensor& x, std::span<const int64_t> indices, int axis, const Tensor& y);
void scatter_add(const Tensor& y_bar, std::span<const int64_t> indices, int axis, const Tensor& x_bar);
void softmax(const Tensor& x, int axis, const Tensor& y, bool logarithm);

}  // namespace palimpsest::cpu
