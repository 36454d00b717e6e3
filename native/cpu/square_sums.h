// Per-example squares of products over positions, read where x and y_bar lie: nothing is packed.
#pragma once

#include "cpu/tap_conv.h"

namespace palimpsest::cpu {

// Whole vectors of outputs and enough input channels for a tile; elsewhere the packed panels are quicker.
template <typename T>
bool squares_fit_in_place(const TapConv& conv);

// sums [parts][(tap, in), out]: each part adds up sum_p (x[n, p + tap, i] y_bar[n, p, o])^2 of its share of the
// examples.
template <typename T>
void sum_squares_in_place(const TapConv& conv, int64_t parts, const T* x, const T* y_bar, int64_t y_channels, T* sums);

}  // namespace palimpsest::cpu
