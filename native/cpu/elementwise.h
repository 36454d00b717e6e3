// Runs elementwise programs a tile at a time.
#pragma once

#include <span>

#include "backend/elementwise.h"

namespace palimpsest::cpu {

void elementwise(const ElementwiseProgram& program, std::span<const Tensor> inputs, std::span<const Tensor> outputs);

}  // namespace palimpsest::cpu
