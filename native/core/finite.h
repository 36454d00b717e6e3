// Whether values are finite.
#pragma once

#include <cstdint>

namespace palimpsest {

// No infinity and no NaN among them.
bool all_finite(const float* values, int64_t count);
bool all_finite(const double* values, int64_t count);

}  // namespace palimpsest
