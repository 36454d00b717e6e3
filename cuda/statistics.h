// Batch statistics of channels.
#pragma once

#include "cuda/device.h"

namespace palimpsest::cuda {

void batch_norm_statistics(Device& device, const Tensor& x, double epsilon, const Tensor& mean, const Tensor& rstd);

}  // namespace palimpsest::cuda
