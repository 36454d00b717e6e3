// Channel statistics by class. Types and shapes are checked by the caller.
#pragma once

#include "cuda/device.h"

namespace palimpsest::cuda {

void channel_statistics(Device& device, const Tensor& x, const Tensor& labels, const Tensor& sums);

}  // namespace palimpsest::cuda
