// Rows of a store as a call's inputs, read from JavaScript: { store, first }, which takes them as they are, or
// { store, gather, indices, flips?, crops? }.
#pragma once

#include <napi.h>

#include "binding/staging.h"

namespace palimpsest {

// Stages rows of a store for a batch, the tail repeating the first; `row_size`: values in a row of the program's input.
void stage_store_rows(const Napi::Value& value, int64_t row_size, int64_t batch, Staging& staging);

}  // namespace palimpsest
