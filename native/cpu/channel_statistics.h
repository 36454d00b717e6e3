// Channel statistics by class. Types and shapes are checked by the caller.
#pragma once

#include "core/tensor.h"

namespace palimpsest::cpu {

void channel_statistics(const Tensor& x, const Tensor& labels, const Tensor& sums);

}  // namespace palimpsest::cpu
