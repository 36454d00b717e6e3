// Elementwise programs as kernels run them: steps that load, compute and store, registers in slots of shared memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <span>
#include <vector>

#include "backend/elementwise.h"

namespace palimpsest::cuda {

// The register that holds the last step's result is read without a slot.
constexpr uint16_t last_result = 0xffff;

enum class StepKind : uint8_t { load, store, compute };

struct DeviceStep {
  StepKind kind;
  Code code;
  Unary unary;
  uint8_t order;
  uint16_t a, b, c;  // slots, or last_result; of a load or store: the operand in `operand`
  uint16_t slot;     // where the result goes; last_result: nowhere but the last result
  uint16_t operand;  // outputs come first, then inputs
};

struct DeviceConstants {
  double alpha, beta;
};

struct CompiledProgram {
  std::vector<DeviceStep> steps;
  std::vector<DeviceConstants> constants;  // of each step
  int slots = 0;
};

// Loads come right before their first use, stores after the last load, so that an output may lie in an input's memory.
CompiledProgram compile(const ElementwiseProgram& program, size_t outputs);

int operand_count(const Instruction& step);

}  // namespace palimpsest::cuda
