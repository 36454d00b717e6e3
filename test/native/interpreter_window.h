// Rows over sliding windows, by one loop over every (output, tap, channel) of the convolution or pool.
#pragma once

#include "graph_run.h"

namespace palimpsest::check {

bool is_window_row(Op op);
std::vector<Values> window_row(const Node& node, const std::vector<Values>& in, const std::vector<Dims>& in_dims,
                               const Dims& out_dims);

}  // namespace palimpsest::check
