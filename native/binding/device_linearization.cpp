// Slots, and products put together from a linearization's parts.
#include "binding/device_linearization.h"

#include <utility>

#include "core/error.h"

namespace palimpsest {

namespace {

size_t row_of(LinearizedOutput output) { return static_cast<size_t>(output); }

}  // namespace

size_t DeviceLinearization::slot_bytes() const {
  const bool keeps = (program().held_inputs() & 1u << input_x) != 0;
  const int64_t inputs = keeps ? element_count(signature().inputs[input_x].dims) : 0;
  return program().held_bytes() + static_cast<size_t>(inputs) * size_of(dtype());
}

size_t DeviceLinearization::shared_bytes() const {
  return program().arena_bytes() - program().held_bytes() + program().constant_bytes() + buffer_bytes();
}

void DeviceLinearization::hold(int32_t slot, Staging& staging, std::shared_ptr<DeviceVector> parameters) {
  const auto at = static_cast<size_t>(slot);
  if (slots_.size() <= at) slots_.resize(at + 1);
  Slot& kept = slots_[at];
  kept.ready = false;
  if (!kept.held) {
    const std::shared_ptr<Backend> backend = queue().shared_backend();
    std::shared_ptr<void> inputs;
    if ((program().held_inputs() & 1u << input_x) != 0) {
      const size_t bytes = static_cast<size_t>(element_count(signature().inputs[input_x].dims)) * size_of(dtype());
      inputs = std::shared_ptr<void>(backend->allocate(bytes), [backend](void* data) { backend->release(data); });
    }
    kept.held = planned().make_held();
    kept.inputs = std::move(inputs);
  }
  Bindings bound;
  bound.parameters = parameters->data();
  if (signature().inputs[input_x].read) {
    void* const inputs = kept.inputs ? kept.inputs.get() : input(input_x);
    take_input(input_x, staging, inputs);
    bound.inputs[input_x] = inputs;
  }
  planned().hold(bound, *kept.held);
  note_first_run();
  kept.parameters = std::move(parameters);
  kept.rows = staging.rows;
  kept.ready = true;
}

void DeviceLinearization::release(int32_t slot) {
  if (static_cast<size_t>(slot) < slots_.size()) slots_[static_cast<size_t>(slot)] = {};
}

const DeviceLinearization::Slot& DeviceLinearization::slot_of(const LinearizedCall& call) const {
  const bool there = static_cast<size_t>(call.slot) < slots_.size() && slots_[static_cast<size_t>(call.slot)].ready;
  if (!there) {
    throw Error(ErrorCode::invalid_argument,
                "expected a slot that holds a batch, got slot " + std::to_string(call.slot) + ", which holds none");
  }
  return slots_[static_cast<size_t>(call.slot)];
}

void DeviceLinearization::apply(const Slot& slot, LinearizedOutput output, const void* cotangent,
                                const DeviceVector* tangent, const LinearizedCall& call, DeviceVector* sums) {
  Bindings bound;
  bound.groups = group_of(output);
  bound.inputs[input_cotangent] = cotangent;
  bound.inputs[input_weight] = input(input_weight);
  bound.inputs[input_target] = input(input_target);
  if (tangent != nullptr) bound.tangents = tangent->data();
  if (sums != nullptr) bound.sums = sums->data();
  bound.accumulate = call.accumulate;
  for (int32_t i = 0; i < linearized_rows; ++i) bound.rows.push_back(this->output(static_cast<size_t>(i)));
  planned().apply(bound, *slot.held);
}

void DeviceLinearization::set_weights(const Slot& slot, double weight) {
  if (weight == weight_ && slot.rows == weighted_rows_) return;
  const auto batch = static_cast<size_t>(options().batch), rows = static_cast<size_t>(slot.rows);
  const auto send = [&](auto zero) {
    std::vector<decltype(zero)> values(batch, zero);
    std::fill_n(values.begin(), rows, static_cast<decltype(zero)>(weight));
    queue().backend().copy_in(input(input_weight), values.data(), batch * sizeof zero);
  };
  weighted_rows_ = -1;
  if (dtype() == DType::f64) send(0.0);
  else send(0.0f);
  weight_ = weight;
  weighted_rows_ = slot.rows;
}

void DeviceLinearization::give(const Slot& slot, LinearizedOutput output, std::vector<std::byte>& to) {
  const ProgramOutput& made = signature().outputs[row_of(output)];
  to.resize(static_cast<size_t>(made.count / options().batch * slot.rows) * size_of(dtype()));
  queue().backend().copy_out(to.data(), this->output(row_of(output)), to.size());
}

void DeviceLinearization::jvp(const LinearizedCall& call, Staging& staging) {
  const Slot& slot = slot_of(call);
  staging.outputs.resize(call.tangents.size());
  for (size_t i = 0; i < call.tangents.size(); ++i) {
    apply(slot, LinearizedOutput::jvp, nullptr, call.tangents[i].get(), call);
    give(slot, LinearizedOutput::jvp, staging.outputs[i]);
  }
}

void DeviceLinearization::vjp(const LinearizedCall& call, Staging&) {
  const Slot& slot = slot_of(call);
  for (size_t i = 0; i < call.cotangents.size(); ++i) {
    void* const u = input(input_cotangent);
    queue().backend().copy_in(u, call.cotangents[i].data(), call.cotangents[i].size());
    apply(slot, LinearizedOutput::vjp, u, nullptr, call, call.sums[i].get());
  }
}

void DeviceLinearization::ggn_product(const LinearizedCall& call, Staging&) {
  const Slot& slot = slot_of(call);
  set_weights(slot, call.weight);
  const bool entropy = call.loss == Loss::cross_entropy;
  const LinearizedOutput loss = entropy ? LinearizedOutput::cross_entropy : LinearizedOutput::squared_error;
  for (size_t i = 0; i < call.tangents.size(); ++i) {
    apply(slot, LinearizedOutput::jvp, nullptr, call.tangents[i].get(), call);
    apply(slot, loss, output(row_of(LinearizedOutput::jvp)), nullptr, call);
    apply(slot, LinearizedOutput::vjp, output(row_of(loss)), nullptr, call, call.sums[i].get());
  }
}

void DeviceLinearization::linear_gradient(const LinearizedCall& call, Staging& staging) {
  const Slot& slot = slot_of(call);
  set_weights(slot, call.weight);
  queue().backend().copy_in(input(input_target), call.targets.data(), call.targets.size());
  apply(slot, LinearizedOutput::jvp, nullptr, call.tangents[0].get(), call);
  apply(slot, LinearizedOutput::residual, output(row_of(LinearizedOutput::jvp)), nullptr, call);
  apply(slot, LinearizedOutput::squared_error, output(row_of(LinearizedOutput::residual)), nullptr, call);
  apply(slot, LinearizedOutput::vjp, output(row_of(LinearizedOutput::squared_error)), nullptr, call,
        call.sums[0].get());
  staging.outputs.resize(1);
  give(slot, LinearizedOutput::residual, staging.outputs[0]);
}

}  // namespace palimpsest
