// Rows of a dataset, which lies in host memory, into a batch on the device.
#pragma once

#include "cuda/device.h"

namespace palimpsest::cuda {

void gather_rows(Device& device, const GatherSpec& spec, std::span<const GatherRow> rows, const void* store,
                 bool store_is_u8, const Tensor& y);

}  // namespace palimpsest::cuda
