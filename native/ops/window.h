// Sliding windows: what convolution and pooling share about sizes.
#pragma once

#include "backend/backend.h"
#include "ops/graph.h"

namespace palimpsest {

// [N, channels, OH, OW] for x [N, C, H, W]; throws ERR_SHAPE where a window does not fit.
Dims window_output(const Attributes& attributes, const Dims& x, const Dims& kernel, int64_t channels);

// The backend's shape for x and y of logical [N, C, H, W]; o = y's channels, groups 1.
ConvShape window_shape(const Attributes& attributes, const Dims& x, const Dims& y, const Dims& kernel);

}  // namespace palimpsest
