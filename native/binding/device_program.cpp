// A program's signature, its buffers and its steps.
#include "binding/device_program.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace palimpsest {

ProgramSignature::ProgramSignature(const ProgramDescription& description) {
  const Graph& graph = description.graph;
  for (ValueId id = 0; id < graph.value_count(); ++id) {
    const Value& value = graph.value(id);
    if (value.source == Source::tangent) reads_tangents = true;
    if (value.source != Source::input) continue;
    inputs[value.index] = {true, value.dims, element_count(value.dims) / graph.batch()};
  }
  for (const GraphOutput& output : description.outputs) {
    if (output.parameter >= 0) {
      writes_sums = true;
      continue;
    }
    const Value& value = graph.value(output.value);
    const bool rows = value.batch.axis == 0 && value.batch.outer == 1 && value.batch.inner == 1;
    outputs.push_back({value.dims, rows, element_count(value.dims)});
  }
}

namespace {

ProgramDescription in_precision(Precision precision, ProgramDescription description) {
  description.precision = precision;
  return description;
}

}  // namespace

DeviceProgram::DeviceProgram(std::shared_ptr<PlacedNetwork> placed, const ProductOptions& options, DType dtype,
                             Precision precision)
    : DeviceProgram(placed, options, dtype, in_precision(precision, product_graph(placed->network, options))) {}

DeviceProgram::DeviceProgram(std::shared_ptr<PlacedNetwork> placed, const ProductOptions& options, DType dtype,
                             ProgramDescription description)
    : placed_(std::move(placed)), options_(options), dtype_(dtype), signature_(description) {
  program_ = std::make_unique<Program>(std::move(description), placed_->network, queue().shared_backend(), dtype);
  try {
    for (int slot = 0; slot < input_slots; ++slot) {
      // A linearization keeps inputs with each batch.
      const bool kept = options.quantity == Quantity::linearization && (program_->held_inputs() >> slot & 1) != 0;
      if (signature_.inputs[slot].read && !kept) inputs_[slot] = allocate(element_count(signature_.inputs[slot].dims));
    }
    for (const ProgramOutput& output : signature_.outputs) outputs_.push_back(allocate(output.count));
  } catch (...) {
    for (void* buffer : buffers_) queue().backend().release(buffer);
    throw;
  }
}

DeviceProgram::~DeviceProgram() {
  for (void* buffer : buffers_) queue().backend().release(buffer);
}

void* DeviceProgram::allocate(int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * size_of(dtype_);
  buffers_.reserve(buffers_.size() + 1);
  buffers_.push_back(queue().backend().allocate(bytes));
  buffer_bytes_ += bytes;
  return buffers_.back();
}

void DeviceProgram::take_inputs(Staging& staging) {
  for (int slot = 0; slot < input_slots; ++slot) {
    if (signature_.inputs[slot].read) take_input(static_cast<InputSlot>(slot), staging, inputs_[slot]);
  }
}

void DeviceProgram::take_input(InputSlot slot, Staging& staging, void* target) {
  Backend& backend = queue().backend();
  if (slot == input_x && staging.range.store) return take_range(staging, target);
  if (slot != input_x || !staging.gather.store) {
    return backend.copy_in(target, staging.inputs[slot].data(), staging.inputs[slot].size());
  }
  const StagedGather& gather = staging.gather;
  GatherSpec spec{gather.channels, gather.height, gather.width, gather.pad, gather.scale, gather.shift};
  const int64_t batch = signature_.inputs[slot].dims[0];
  const bool image = gather.height * gather.width > 1;
  Dims dims = image ? Dims{batch, gather.channels, gather.height, gather.width} : Dims{batch, gather.channels};
  backend.gather_rows(spec, gather.rows, gather.store->data(), gather.store->type() == RowType::u8,
                      dense_tensor(target, dtype_, std::move(dims)));
}

void DeviceProgram::take_range(Staging& staging, void* target) {
  Backend& backend = queue().backend();
  const RowStore& store = *staging.range.store;
  const auto* from = reinterpret_cast<const float*>(store.row(staging.range.first));
  const int64_t batch = signature_.inputs[input_x].dims[0];
  const auto width = static_cast<size_t>(store.width()), rows = static_cast<size_t>(staging.rows);
  if (dtype_ == DType::f32 && staging.rows == batch) return backend.copy_in(target, from, rows * width * sizeof(float));
  std::vector<std::byte>& values = staging.inputs[input_x];
  values.resize(static_cast<size_t>(batch) * width * size_of(dtype_));
  if (dtype_ == DType::f32) {
    std::memcpy(values.data(), from, rows * width * sizeof(float));
  } else {
    std::copy(from, from + rows * width, reinterpret_cast<double*>(values.data()));
  }
  repeat_first_row(values, staging.rows, batch);
  backend.copy_in(target, values.data(), values.size());
}

void DeviceProgram::note_first_run() {
  if (!std::exchange(ran_, true)) StepQueue::guard_exit();
}

void DeviceProgram::give_outputs(Staging& staging) {
  note_first_run();
  Backend& backend = queue().backend();
  // Sums stay on the device, which need not be waited for: the next batch is uploaded while this one is computed.
  if (!staging.wants_outputs || outputs_.empty()) return;
  staging.outputs.resize(outputs_.size());
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const ProgramOutput& output = signature_.outputs[i];
    const int64_t count = output.rows ? output.count / options_.batch * staging.rows : output.count;
    staging.outputs[i].resize(static_cast<size_t>(count) * size_of(dtype_));
    backend.copy_out(staging.outputs[i].data(), outputs_[i], staging.outputs[i].size());
  }
}

Bindings DeviceProgram::bindings(const VectorsOfCall& vectors) const {
  if (vectors.sums && (vectors.sums == vectors.parameters || vectors.sums == vectors.tangents)) {
    throw Error(ErrorCode::invalid_argument, "expected a vector of its own for 'sums', got one that the call reads");
  }
  Bindings bound;
  std::copy(std::begin(inputs_), std::end(inputs_), std::begin(bound.inputs));
  bound.parameters = vectors.parameters->data();
  if (vectors.tangents) bound.tangents = vectors.tangents->data();
  if (vectors.sums) bound.sums = vectors.sums->data();
  bound.rows = outputs_;
  bound.accumulate = vectors.accumulate;
  return bound;
}

void DeviceProgram::fill_inputs() {
  note_first_run();
  std::vector<std::byte> values;
  for (int slot = 0; slot < input_slots; ++slot) {
    if (!signature_.inputs[slot].read) continue;
    const int64_t count = element_count(signature_.inputs[slot].dims);
    values.resize(static_cast<size_t>(count) * size_of(dtype_));
    for (int64_t i = 0; i < count; ++i) {
      const double value = static_cast<double>(i * 7919 % 1009 + 1) / 1009;  // no two neighbours alike, none zero
      if (dtype_ == DType::f64) reinterpret_cast<double*>(values.data())[i] = value;
      if (dtype_ == DType::f32) reinterpret_cast<float*>(values.data())[i] = static_cast<float>(value);
    }
    queue().backend().copy_in(inputs_[slot], values.data(), values.size());
  }
}

void DeviceProgram::run(Staging& staging, const VectorsOfCall& vectors) {
  anchor_.reset();
  const Bindings bound = bindings(vectors);
  take_inputs(staging);
  program_->run(bound);
  give_outputs(staging);
}

void DeviceProgram::hold(Staging& staging, const VectorsOfCall& vectors) {
  anchor_.reset();
  const Bindings bound = bindings(vectors);
  take_inputs(staging);
  program_->hold(bound);
  note_first_run();
  held_rows_ = staging.rows;
  anchor_ = vectors.parameters;
}

void DeviceProgram::apply(Staging& staging, const VectorsOfCall& vectors) {
  if (!anchor_)
    throw Error(ErrorCode::invalid_argument, "expected hold() before apply(), got none since the last run()");
  VectorsOfCall all = vectors;
  all.parameters = anchor_;
  staging.rows = held_rows_;
  program_->apply(bindings(all));
  give_outputs(staging);
}

}  // namespace palimpsest
