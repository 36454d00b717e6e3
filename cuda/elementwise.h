// Runs elementwise programs: an interpreter over registers in shared memory.
#pragma once

#include <span>

#include "cuda/device.h"

namespace palimpsest::cuda {

void elementwise(Device& device, const ElementwiseProgram& program, std::span<const Tensor> inputs,
                 std::span<const Tensor> outputs);

}  // namespace palimpsest::cuda
