// Rows of a dataset into a batch.
#pragma once

#include "backend/backend.h"

namespace palimpsest::cpu {

void gather_rows(const GatherSpec& spec, std::span<const GatherRow> rows, const void* store, bool store_is_u8,
                 const Tensor& y);

}  // namespace palimpsest::cpu
