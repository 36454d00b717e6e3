// Pooling, channels-last.
#pragma once

#include "backend/backend.h"

namespace palimpsest::cpu {

template <typename T>
void max_pool(const ConvShape& shape, const T* x, T* y, int32_t* index);
template <typename T>
void pool_gather(const ConvShape& shape, const T* x, const int32_t* index, T* y);
template <typename T>
void pool_scatter(const ConvShape& shape, const T* y_bar, const int32_t* index, T* x_bar);
template <typename T>
void average_pool(const ConvShape& shape, bool count_pads, const T* x, T* y);
template <typename T>
void average_pool_gradient(const ConvShape& shape, bool count_pads, const T* y_bar, T* x_bar);

}  // namespace palimpsest::cpu
