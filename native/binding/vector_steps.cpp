// Staging of values, options of a step of SGD, and the product as an elementwise program.
#include "binding/vector_steps.h"

#include <cstring>

#include "binding/arguments.h"

namespace palimpsest {

StagedRange stage_range(const Napi::Value& value, const ParameterEntry& parameter, DType dtype) {
  StagedRange staged{parameter.offset, parameter.size, {}};
  staged.values.resize(static_cast<size_t>(parameter.size) * size_of(dtype));
  copy_floats(value, parameter.name, parameter.size, dtype, staged.values.data());
  return staged;
}

std::vector<StagedRange> stage_all(const Napi::Value& value, const ParameterLayout& layout, DType dtype) {
  std::vector<std::byte> flat(static_cast<size_t>(layout.length()) * size_of(dtype));
  copy_floats(value, "values", layout.length(), dtype, flat.data());
  std::vector<StagedRange> staged;
  for (const ParameterEntry& parameter : layout.entries()) {
    const std::byte* start = flat.data() + static_cast<size_t>(parameter.offset) * size_of(dtype);
    const size_t bytes = static_cast<size_t>(parameter.size) * size_of(dtype);
    staged.push_back({parameter.offset, parameter.size, std::vector<std::byte>(start, start + bytes)});
  }
  return staged;
}

SgdStep read_sgd_step(const Napi::Value& value) {
  const Napi::Object from = object(value, "step");
  const auto optional = [&](const char* key) {
    const Napi::Value given = from.Get(key);
    return given.IsUndefined() ? 0.0 : finite_number(given, key);
  };
  SgdStep step;
  step.rate = finite_number(from.Get("rate"), "rate");
  step.momentum = optional("momentum");
  step.weight_decay = optional("weightDecay");
  const Napi::Value nesterov = from.Get("nesterov");
  step.nesterov = !nesterov.IsUndefined() && boolean(nesterov, "nesterov");
  return step;
}

void add_product(double alpha, const DeviceVector& a, const DeviceVector& b, const DeviceVector& y) {
  ElementwiseProgram program;
  program.inputs = 3;  // registers 0 a, 1 b, 2 y; 3 = alpha a, 4 = (alpha a) b + y
  program.instructions.push_back({Code::unary, Unary::affine, 0, 0, -1, -1, alpha, 0});
  program.instructions.push_back({Code::mul_add, Unary::identity, 0, 3, 1, 2, 0, 0});
  program.outputs = {4};
  const Tensor inputs[] = {a.whole(), b.whole(), y.whole()};
  const Tensor outputs[] = {y.whole()};
  y.queue().backend().elementwise(program, inputs, outputs);
}

}  // namespace palimpsest
