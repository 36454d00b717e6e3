// Checks of a call against what its program reads, and the copies of its arrays.
#include "binding/program_call.h"

#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "binding/gather_call.h"

namespace palimpsest {

namespace {

constexpr std::array<std::pair<const char*, Quantity>, 14> quantities = {{
    {"evaluate", Quantity::evaluate},
    {"jvp", Quantity::jvp},
    {"evaluateJvp", Quantity::evaluate_jvp},
    {"vjp", Quantity::vjp},
    {"loss", Quantity::loss},
    {"gradient", Quantity::gradient},
    {"ggnProduct", Quantity::ggn_product},
    {"hessianProduct", Quantity::hessian_product},
    {"gradientSquares", Quantity::gradient_squares},
    {"fisherEmpirical", Quantity::fisher_empirical},
    {"fisherClass", Quantity::fisher_class},
    {"linearGradient", Quantity::linear_gradient},
    {"channelStatistics", Quantity::channel_statistics},
    {"linearization", Quantity::linearization},
}};

Quantity quantity_named(const Napi::Value& value) {
  const std::string wanted = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  for (const auto& [name, quantity] : quantities) {
    if (wanted == name) return quantity;
  }
  refuse("the name of a quantity", "quantity", value);
}

std::vector<bool> chosen_parameters(const Napi::Value& value, const ParameterLayout& layout) {
  const Napi::Array names = array(value, "parameters");
  std::vector<bool> chosen(layout.entries().size(), false);
  if (names.Length() == 0) refuse("one parameter or more", "parameters", value);
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const Napi::Value name = names[i];
    const int found = layout.find(string(name, "parameters"));
    if (found < 0) refuse("names of parameters", "parameters", name);
    chosen[static_cast<size_t>(found)] = true;
  }
  return chosen;
}

std::vector<int32_t> value_ids(const Napi::Value& value) {
  const Napi::Array ids = array(value, "taps");
  std::vector<int32_t> taps;
  for (uint32_t i = 0; i < ids.Length(); ++i) {
    const Napi::Value id = ids[i];
    taps.push_back(static_cast<int32_t>(whole_number(id, "taps", 0, std::numeric_limits<int32_t>::max())));
  }
  return taps;
}

}  // namespace

Loss loss_named(const Napi::Value& value) {
  const std::string wanted = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (wanted == "squaredError") return Loss::squared_error;
  if (wanted != "crossEntropy") refuse("'crossEntropy' or 'squaredError'", "loss", value);
  return Loss::cross_entropy;
}

std::shared_ptr<DeviceVector> vector_of_call(const Napi::Value& value, const char* name, const DeviceProgram& program) {
  const std::shared_ptr<DeviceVector>& vector = VectorHandle::from(value, name).held();
  expect_device(*vector, name, program.queue());
  if (!same_layout(*vector->layout(), program.layout())) {
    throw Error(ErrorCode::invalid_argument,
                std::string("expected a vector with the network's parameters for '") + name + "', got one with others");
  }
  if (vector->dtype() != program.dtype()) {
    throw Error(ErrorCode::invalid_argument, std::string("expected a ") + float_type_name(program.dtype()) +
                                                 " vector for '" + name + "', got " + float_type_name(vector->dtype()));
  }
  return vector;
}

void copy_rows(const Napi::Value& value, const char* name, InputSlot slot, const DeviceProgram& program, int64_t rows,
               std::vector<std::byte>& target) {
  const ProgramInput& input = program.signature().inputs[slot];
  target.resize(static_cast<size_t>(input.row_size * program.options().batch) * size_of(program.dtype()));
  copy_floats(value, name, rows * input.row_size, program.dtype(), target.data());
  const size_t used = static_cast<size_t>(rows * input.row_size) * size_of(program.dtype());
  std::memset(target.data() + used, 0, target.size() - used);
}

namespace {

size_t padded_bytes(const ProgramInput& input, const DeviceProgram& program) {
  return static_cast<size_t>(input.row_size * program.options().batch) * size_of(program.dtype());
}

void stage_rows(const Napi::Value& value, const char* name, InputSlot slot, const DeviceProgram& program,
                Staging& staging) {
  copy_rows(value, name, slot, program, staging.rows, staging.inputs[slot]);
}

void stage_weights(const Napi::Value& value, const DeviceProgram& program, Staging& staging) {
  if (!value.IsNumber()) return stage_rows(value, "weights", input_weight, program, staging);
  const double weight = finite_number(value, "weights");
  std::vector<std::byte>& target = staging.inputs[input_weight];
  target.assign(padded_bytes(program.signature().inputs[input_weight], program), std::byte{0});
  for (int64_t i = 0; i < staging.rows; ++i) {
    if (program.dtype() == DType::f64) {
      reinterpret_cast<double*>(target.data())[i] = weight;
    } else {
      reinterpret_cast<float*>(target.data())[i] = static_cast<float>(weight);
    }
  }
}

void stage_inputs(const Napi::Value& value, const DeviceProgram& program, Staging& staging) {
  staging.gather.store.reset();
  staging.range.store.reset();
  const int64_t batch = program.options().batch;
  if (!is_typed_array(value) && value.IsObject()) {
    return stage_store_rows(value, program.signature().inputs[input_x].row_size, batch, staging);
  }
  stage_rows(value, "inputs", input_x, program, staging);
  repeat_first_row(staging.inputs[input_x], staging.rows, batch);
}

// Every property is read before any array is copied: a getter may take an array's memory away.
void read_inputs(const Napi::Object& from, const DeviceProgram& program, Staging& staging, ProgramCall& call) {
  const Napi::Value rows = from.Get("rows"), inputs = from.Get("inputs"), targets = from.Get("targets"),
                    weights = from.Get("weights"), cotangents = from.Get("cotangents"),
                    parameters = from.Get("parameters");
  const ProgramInput* reads = program.signature().inputs;
  const int64_t batch = program.options().batch;
  staging.rows = whole_number(rows, "rows", program.options().training ? batch : 1, batch);
  call.vectors.parameters = vector_of_call(parameters, "parameters", program);
  if (reads[input_x].read) stage_inputs(inputs, program, staging);
  if (reads[input_target].read) stage_rows(targets, "targets", input_target, program, staging);
  if (reads[input_weight].read) stage_weights(weights, program, staging);
  if (reads[input_cotangent].read) stage_rows(cotangents, "cotangents", input_cotangent, program, staging);
}

void read_results(const Napi::Object& from, const DeviceProgram& program, Staging& staging, ProgramCall& call) {
  const Napi::Value tangents = from.Get("tangents"), sums = from.Get("sums"), accumulate = from.Get("accumulate"),
                    outputs = from.Get("outputs");
  if (program.signature().reads_tangents) call.vectors.tangents = vector_of_call(tangents, "tangents", program);
  if (program.signature().writes_sums) {
    call.vectors.sums = vector_of_call(sums, "sums", program);
    call.sums = &VectorHandle::from(sums, "sums");
  }
  call.vectors.accumulate = !accumulate.IsUndefined() && boolean(accumulate, "accumulate");
  staging.wants_outputs = outputs.IsUndefined() || boolean(outputs, "outputs");
}

}  // namespace

std::shared_ptr<DeviceVector> read_batch(const Napi::Value& value, const DeviceProgram& program, Staging& staging) {
  const Napi::Object from = object(value, "call");
  const Napi::Value rows = from.Get("rows"), inputs = from.Get("inputs"), parameters = from.Get("parameters");
  staging.rows = whole_number(rows, "rows", 1, program.options().batch);
  std::shared_ptr<DeviceVector> vector = vector_of_call(parameters, "parameters", program);
  stage_inputs(inputs, program, staging);
  return vector;
}

const char* quantity_name(Quantity wanted) {
  for (const auto& [name, quantity] : quantities) {
    if (wanted == quantity) return name;
  }
  return "";
}

ProgramRequest read_program_request(const Napi::Value& value, const ParameterLayout& layout) {
  const Napi::Object from = object(value, "options");
  ProgramRequest request;
  request.options.quantity = quantity_named(from.Get("quantity"));
  request.options.batch = whole_number(from.Get("batch"), "batch", 1, std::numeric_limits<int32_t>::max());
  const Napi::Value loss = from.Get("loss"), dtype = from.Get("dtype"), training = from.Get("training"),
                    holdable = from.Get("holdable"), parameters = from.Get("parameters"), tf32 = from.Get("tf32"),
                    taps = from.Get("taps");
  if (!loss.IsUndefined()) request.options.loss = loss_named(loss);
  if (!dtype.IsUndefined()) request.dtype = float_type(dtype, "dtype");
  if (!tf32.IsUndefined() && boolean(tf32, "tf32")) request.precision = Precision::tf32;
  if (!training.IsUndefined()) request.options.training = boolean(training, "training");
  if (!holdable.IsUndefined()) request.options.holdable = boolean(holdable, "holdable");
  if (!parameters.IsUndefined()) request.options.parameters = chosen_parameters(parameters, layout);
  if (!taps.IsUndefined()) request.options.taps = value_ids(taps);
  return request;
}

ProgramCall read_program_call(const Napi::Value& value, const DeviceProgram& program, bool inputs, bool results,
                              Staging& staging) {
  const Napi::Object from = object(value, "call");
  ProgramCall call;
  staging.wants_outputs = false;
  if (results) read_results(from, program, staging, call);
  if (inputs) read_inputs(from, program, staging, call);
  return call;
}

}  // namespace palimpsest
