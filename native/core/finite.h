// Whether values are finite.
#pragma once

#include <cstdint>

namespace palimpsest {

// No infinity and no NaN among them.
bool all_finite(const float* values, int64_t count);
bool all_finite(const double* values, int64_t count);

// Copies values up to the first that is not finite, whose position it returns; `count` where all are.
int64_t copy_finite(const float* from, int64_t count, float* to);
int64_t copy_finite(const double* from, int64_t count, double* to);

}  // namespace palimpsest
