// Compiles elementwise programs: an order of loads and stores, and slots for what lives longer than a step.
#include "cuda/elementwise_program.h"

#include <algorithm>

#include "core/error.h"

namespace palimpsest::cuda {

int operand_count(const Instruction& step) {
  if (step.code == Code::unary) return step.order == 0 ? 1 : 2;
  return step.code == Code::mul_add || step.code == Code::where ? 3 : 2;
}

namespace {

// A step before slots are known: which register it makes and which it reads.
struct Plain {
  DeviceStep step{};
  DeviceConstants constants{};
  int32_t makes = -1;
  int32_t reads[3] = {-1, -1, -1};
};

std::vector<Plain> plain_steps(const ElementwiseProgram& program, size_t outputs) {
  std::vector<Plain> steps;
  std::vector<bool> loaded(static_cast<size_t>(program.inputs), false);
  const auto need = [&](int32_t reg) {
    if (reg >= program.inputs || loaded[static_cast<size_t>(reg)]) return;
    loaded[static_cast<size_t>(reg)] = true;
    Plain load;
    load.step.kind = StepKind::load;
    load.step.operand = static_cast<uint16_t>(outputs + static_cast<size_t>(reg));
    load.makes = reg;
    steps.push_back(load);
  };
  int32_t next = program.inputs;
  for (const Instruction& instruction : program.instructions) {
    Plain plain;
    const int32_t operands[] = {instruction.a, instruction.b, instruction.c};
    for (int i = 0; i < operand_count(instruction); ++i) {
      need(operands[i]);
      plain.reads[i] = operands[i];
    }
    plain.step.kind = StepKind::compute;
    plain.step.code = instruction.code;
    plain.step.unary = instruction.unary;
    plain.step.order = instruction.order;
    plain.constants = {instruction.alpha, instruction.beta};
    plain.makes = next++;
    steps.push_back(plain);
  }
  for (const int32_t output : program.outputs) need(output);
  for (size_t o = 0; o < program.outputs.size(); ++o) {
    Plain store;
    store.step.kind = StepKind::store;
    store.step.operand = static_cast<uint16_t>(o);
    store.reads[0] = program.outputs[o];
    steps.push_back(store);
  }
  return steps;
}

}  // namespace

CompiledProgram compile(const ElementwiseProgram& program, size_t outputs) {
  std::vector<Plain> steps = plain_steps(program, outputs);
  const size_t registers = static_cast<size_t>(program.inputs) + program.instructions.size();
  std::vector<size_t> last_use(registers, 0), uses_elsewhere(registers, 0);
  int32_t last = -1;  // what the last result holds before a step
  for (size_t s = 0; s < steps.size(); ++s) {
    for (const int32_t reg : steps[s].reads) {
      if (reg < 0) continue;
      last_use[static_cast<size_t>(reg)] = s;
      uses_elsewhere[static_cast<size_t>(reg)] += reg != last;
    }
    if (steps[s].makes >= 0) last = steps[s].makes;
  }

  CompiledProgram compiled;
  std::vector<uint16_t> slot_of(registers, last_result), free;
  last = -1;
  for (size_t s = 0; s < steps.size(); ++s) {
    Plain& plain = steps[s];
    uint16_t* places[] = {&plain.step.a, &plain.step.b, &plain.step.c};
    for (int i = 0; i < 3; ++i) {
      const int32_t reg = plain.reads[i];
      *places[i] = reg < 0 || reg == last ? last_result : slot_of[static_cast<size_t>(reg)];
    }
    for (const int32_t reg : plain.reads) {
      if (reg < 0 || last_use[static_cast<size_t>(reg)] != s) continue;
      uint16_t& slot = slot_of[static_cast<size_t>(reg)];
      if (slot != last_result) free.push_back(slot);
      slot = last_result;
    }
    plain.step.slot = last_result;
    if (plain.makes >= 0) {
      const size_t made = static_cast<size_t>(plain.makes);
      if (uses_elsewhere[made] > 0) {
        if (free.empty()) free.push_back(static_cast<uint16_t>(compiled.slots++));
        plain.step.slot = slot_of[made] = free.back();
        free.pop_back();
      }
      last = plain.makes;
    }
    compiled.steps.push_back(plain.step);
    compiled.constants.push_back(plain.constants);
  }
  if (compiled.slots >= last_result) {
    throw Error(ErrorCode::unsupported, "expected an elementwise program of fewer registers, got " +
                                            std::to_string(compiled.slots) + " at once");
  }
  return compiled;
}

}  // namespace palimpsest::cuda
