// A row source { store, gather, indices, flips?, crops? } read from JavaScript.
#pragma once

#include <napi.h>

#include "binding/staging.h"

namespace palimpsest {

// Stages rows of a store for a batch, the tail repeating the first; `row_size`: values in a row of the program's input.
void stage_gather(const Napi::Value& value, int64_t row_size, int64_t batch, Staging& staging);

}  // namespace palimpsest
