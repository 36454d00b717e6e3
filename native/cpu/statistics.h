// Batch statistics of channels.
#pragma once

#include "core/tensor.h"

namespace palimpsest::cpu {

void batch_norm_statistics(const Tensor& x, double epsilon, const Tensor& mean, const Tensor& rstd);

}  // namespace palimpsest::cpu
