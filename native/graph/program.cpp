// Runs a plan: one arena, pointers patched per run, no allocation of values in a steady loop.
#include "graph/program.h"

#include "backend/in_precision.h"
#include "core/error.h"
#include "graph/plan.h"
#include "graph/run_step.h"

namespace palimpsest {

namespace {

// Memory of the backend, released with its owner.
class DeviceMemory {
 public:
  DeviceMemory(std::shared_ptr<Backend> backend, size_t bytes)
      : backend_(std::move(backend)), data_(bytes == 0 ? nullptr : backend_->allocate(bytes)) {}
  ~DeviceMemory() {
    if (data_ != nullptr) backend_->release(data_);
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  char* data() const { return static_cast<char*>(data_); }

 private:
  std::shared_ptr<Backend> backend_;
  void* data_;
};

ParameterLayout constant_layout(const Network& network) {
  std::vector<std::pair<std::string, Dims>> list;
  int index = 0;
  for (const Constant& constant : network.constants()) list.emplace_back(std::to_string(index++), constant.dims);
  return ParameterLayout(std::move(list));
}

std::string mebibytes(size_t bytes) { return std::to_string((bytes + (size_t{1} << 19)) >> 20) + " MiB"; }

// Throws where the device has less than `plan` needs; gives the arena's bytes.
size_t affordable(const Backend& backend, const Plan& plan, size_t constants, const Graph& graph) {
  const size_t needed = static_cast<size_t>(plan.arena_bytes) + constants;
  constexpr size_t small = size_t{16} << 20;  // asking the system costs more than such a piece is worth
  const MemoryUse use = backend.memory_use();
  if ((needed < small && use.limit == 0) || needed <= use.free)
    return static_cast<size_t>(plan.arena_bytes - plan.held_bytes);
  const double rows = static_cast<double>(graph.batch()) * static_cast<double>(use.free) / static_cast<double>(needed);
  throw Error(ErrorCode::out_of_memory,
              "expected " + std::to_string(needed) + " bytes (" + mebibytes(needed) + ") for " +
                  std::to_string(graph.batch()) + " rows at once, got " + std::to_string(use.free) + " bytes (" +
                  mebibytes(use.free) + ") free" +
                  (use.limit > 0 ? " of a limit of " + mebibytes(use.limit) : std::string()) +
                  (rows >= 1 ? "; a batch of about " + std::to_string(static_cast<int64_t>(rows)) + " rows would fit"
                             : "; not even one row would fit"));
}

}  // namespace

class Program::Held {
 public:
  Held(const std::shared_ptr<Backend>& backend, size_t bytes) : memory(backend, bytes) {}

  DeviceMemory memory;
  Bindings bindings;  // inputs and parameters of hold
  bool ready = false;
};

struct Program::State {
  State(ProgramDescription d, const Network& n, std::shared_ptr<Backend> b, DType type)
      : description(std::move(d)),
        network(n),
        backend(std::move(b)),
        dtype(type),
        plan(make_plan(description, dtype)),
        constants_at(constant_layout(network)),
        arena(backend, affordable(*backend, plan, static_cast<size_t>(constants_at.length()) * size_of(dtype),
                                  description.graph)),
        constants(backend, static_cast<size_t>(constants_at.length()) * size_of(dtype)),
        base(plan.buffers.size(), nullptr) {
    load_constants();
  }

  // Constants in the working type; again whenever training changed the running statistics.
  void load_constants() {
    std::vector<double> wide;
    for (size_t i = 0; i < network.constants().size(); ++i) {
      const std::vector<float>& data = network.constants()[i].data;
      char* to = constants.data() + static_cast<size_t>(constants_at.entries()[i].offset) * size_of(dtype);
      if (dtype == DType::f32) {
        backend->copy_in(to, data.data(), data.size() * sizeof(float));
      } else {
        wide.assign(data.begin(), data.end());
        backend->copy_in(to, wide.data(), wide.size() * sizeof(double));
      }
    }
    constants_version = network.constants_version();
  }

  char* parameter_at(const void* vector, int32_t index) const {
    if (vector == nullptr) throw Error(ErrorCode::internal, "expected a parameter-space vector for this program");
    const int64_t offset = network.layout().entries()[static_cast<size_t>(index)].offset;
    return static_cast<char*>(const_cast<void*>(vector)) + static_cast<size_t>(offset) * size_of(dtype);
  }

  // Where output i goes in memory of the caller; null where it must be added from the arena.
  char* destination(const Bindings& bindings, size_t output) const {
    const GraphOutput& out = description.outputs[output];
    if ((bindings.groups >> out.group & 1) == 0) return nullptr;
    if (out.parameter >= 0) return bindings.accumulate ? nullptr : parameter_at(bindings.sums, out.parameter);
    size_t position = 0;
    for (size_t i = 0; i < output; ++i) position += description.outputs[i].parameter < 0;
    return position < bindings.rows.size() ? static_cast<char*>(bindings.rows[position]) : nullptr;
  }

  char* root_data(const Bindings& bindings, const Buffer& buffer) const {
    switch (buffer.storage) {
      case Storage::input: {
        const void* data = bindings.inputs[buffer.index];
        if (data == nullptr)
          throw Error(ErrorCode::internal, "expected input " + std::to_string(buffer.index) + " for this program");
        return static_cast<char*>(const_cast<void*>(data));
      }
      case Storage::parameter: return parameter_at(bindings.parameters, buffer.index);
      case Storage::tangent: return parameter_at(bindings.tangents, buffer.index);
      case Storage::constant:
        return constants.data() +
               static_cast<size_t>(constants_at.entries()[static_cast<size_t>(buffer.index)].offset) * size_of(dtype);
      default: break;
    }
    if (buffer.held) return kept->memory.data() + buffer.offset;
    char* direct = buffer.output >= 0 ? destination(bindings, static_cast<size_t>(buffer.output)) : nullptr;
    return direct != nullptr ? direct : scratch(buffer);
  }

  char* scratch(const Buffer& buffer) const { return arena.data() + (buffer.offset - plan.held_bytes); }

  // Comes with apply.
  bool late(const Buffer& buffer) const {
    const bool late_input = buffer.storage == Storage::input && (description.late_inputs >> buffer.index & 1) != 0;
    return buffer.storage == Storage::tangent || buffer.tangent || late_input;
  }

  // Of what apply brings, only what the wanted groups read must be there.
  bool absent(const Bindings& bindings, const Buffer& buffer) const {
    if (buffer.storage == Storage::tangent) return bindings.tangents == nullptr;
    return buffer.storage == Storage::input && late(buffer) && bindings.inputs[buffer.index] == nullptr;
  }

  enum class Part { all, primal, tangent };

  static bool runs(const Step& step, Part part, uint32_t groups) {
    if (part == Part::all) return true;
    return step.tangent ? part == Part::tangent && (step.groups & groups) != 0 : part == Part::primal;
  }

  // `kept` is where the held part of the arena lies.
  void bind(const Bindings& bindings, Part part) {
    // What apply reads of the constants is what hold read.
    if (part != Part::tangent && constants_version != network.constants_version()) load_constants();
    for (size_t i = 0; i < plan.buffers.size(); ++i) {
      const Buffer& buffer = plan.buffers[i];
      if (buffer.root != static_cast<int32_t>(i)) continue;
      const bool primal_scratch = buffer.storage == Storage::arena && !buffer.held && !buffer.tangent;
      if (part == Part::primal && late(buffer)) continue;
      // Direct outputs of primal steps are held: no result is written before apply.
      if (part == Part::primal && primal_scratch) base[i] = scratch(buffer);
      else if (part == Part::tangent && absent(bindings, buffer)) base[i] = nullptr;
      else if (part != Part::tangent || !primal_scratch) base[i] = root_data(bindings, buffer);
    }
    for (Step& step : plan.steps) {
      if (!runs(step, part, bindings.groups)) continue;
      for (size_t k = 0; k < step.inputs.size(); ++k) step.input_tensors[k].data = data_of(step.inputs[k]);
      for (size_t k = 0; k < step.outputs.size(); ++k) step.output_tensors[k].data = data_of(step.outputs[k]);
      for (const Tensor& x : step.input_tensors) {
        if (x.data == nullptr) throw Error(ErrorCode::internal, "expected all inputs of the outputs that are wanted");
      }
    }
  }

  char* data_of(int32_t buffer) const {
    return base[static_cast<size_t>(plan.buffers[static_cast<size_t>(buffer)].root)];
  }

  // Everything runs at once: what a hold would keep lies in memory of the program's own.
  void keep_own() {
    if (plan.held_bytes == 0) return;
    if (!own) own = std::make_shared<Held>(backend, static_cast<size_t>(plan.held_bytes));
    own->ready = false;
    kept = own.get();
  }

  void execute(Part part, uint32_t groups) {
    const InPrecision in(*backend, description.precision);
    for (Step& step : plan.steps) {
      if (runs(step, part, groups)) execute(step);
    }
  }

  void execute(Step& step) { run_step(description.graph, step, *backend, step.input_tensors, step.output_tensors); }

  // Outputs that no step wrote where the caller wants them: added, copied or zero.
  void deliver(const Bindings& bindings) {
    for (size_t i = 0; i < description.outputs.size(); ++i) {
      const GraphOutput& out = description.outputs[i];
      if ((bindings.groups >> out.group & 1) == 0) continue;
      const bool sums = out.parameter >= 0;
      char* to = sums ? parameter_at(bindings.sums, out.parameter) : destination(bindings, i);
      if (to == nullptr) continue;  // rows that the caller does not want
      const Dims& dims = sums ? network.layout().entries()[static_cast<size_t>(out.parameter)].dims
                              : description.graph.dims(out.value);
      const Tensor y = dense_tensor(to, dtype, dims);
      if (plan.outputs[i] < 0) {
        if (!bindings.accumulate) backend->fill(y, 0);
        continue;
      }
      const Tensor x = dense_tensor(data_of(plan.outputs[i]), dtype, dims);
      if (sums && bindings.accumulate) {
        backend->add_into(x, y);
      } else if (x.data != y.data) {
        backend->copy(x, y);
      }
    }
  }

  ProgramDescription description;
  const Network& network;
  std::shared_ptr<Backend> backend;
  DType dtype;
  Plan plan;
  ParameterLayout constants_at;
  DeviceMemory arena, constants;
  uint64_t constants_version = 0;
  std::vector<char*> base;
  std::shared_ptr<Held> own;   // of a holdable program that was not given one
  const Held* kept = nullptr;  // whose memory the pointers lead to
};

Program::Program(ProgramDescription description, const Network& network, std::shared_ptr<Backend> backend, DType dtype)
    : state_(std::make_unique<State>(std::move(description), network, std::move(backend), dtype)) {}
Program::~Program() = default;

std::shared_ptr<Program::Held> Program::make_held() const {
  return std::make_shared<Held>(state_->backend, held_bytes());
}

void Program::run(const Bindings& bindings) {
  State& state = *state_;
  state.keep_own();
  state.bind(bindings, State::Part::all);
  state.execute(State::Part::all, ~0u);
  state.deliver(bindings);
}

void Program::hold(const Bindings& bindings) {
  if (!state_->own) state_->own = make_held();
  hold(bindings, *state_->own);
}

void Program::apply(const Bindings& bindings) {
  if (!state_->own) throw Error(ErrorCode::internal, "expected hold before apply");
  apply(bindings, *state_->own);
}

void Program::hold(const Bindings& bindings, Held& held) {
  State& state = *state_;
  if (!state.description.holdable) throw Error(ErrorCode::internal, "expected a program that was made holdable");
  held.ready = false;
  state.kept = &held;
  state.bind(bindings, State::Part::primal);
  state.execute(State::Part::primal, ~0u);
  held.bindings = bindings;
  held.ready = true;
}

void Program::apply(const Bindings& bindings, const Held& held) {
  if (!held.ready) throw Error(ErrorCode::internal, "expected hold before apply");
  State& state = *state_;
  Bindings all = bindings;
  all.parameters = held.bindings.parameters;
  for (int slot = 0; slot < input_slots; ++slot) {
    const bool late = (state.description.late_inputs >> slot & 1) != 0;
    if (!late) all.inputs[slot] = held.bindings.inputs[slot];
  }
  state.kept = &held;
  state.bind(all, State::Part::tangent);
  state.execute(State::Part::tangent, all.groups);
  state.deliver(all);
}

int Program::visit(const Bindings& bindings, int from, const Visit& visit) {
  state_->keep_own();
  state_->bind(bindings, State::Part::all);
  const InPrecision in(*state_->backend, precision());
  std::vector<Step>& steps = state_->plan.steps;
  for (size_t i = static_cast<size_t>(from); i < steps.size(); ++i) {
    if (!visit(steps[i], [&] { state_->execute(steps[i]); })) return static_cast<int>(i) + 1;
  }
  return static_cast<int>(steps.size());
}

const Plan& Program::plan() const { return state_->plan; }
const Graph& Program::graph() const { return state_->description.graph; }
DType Program::dtype() const { return state_->dtype; }
Precision Program::precision() const { return state_->description.precision; }
int64_t Program::batch() const { return state_->description.graph.batch(); }
size_t Program::arena_bytes() const { return static_cast<size_t>(state_->plan.arena_bytes); }
size_t Program::held_bytes() const { return static_cast<size_t>(state_->plan.held_bytes); }
uint32_t Program::held_inputs() const { return state_->plan.held_inputs; }
size_t Program::constant_bytes() const {
  return static_cast<size_t>(state_->constants_at.length()) * size_of(state_->dtype);
}
double Program::flops() const { return state_->plan.flops; }
double Program::bytes() const { return state_->plan.bytes; }
int Program::step_count() const { return static_cast<int>(state_->plan.steps.size()); }

size_t binding_bytes(const ProgramDescription& description, DType dtype) {
  const Graph& graph = description.graph;
  int64_t values = 0;
  for (ValueId id = 0; id < graph.value_count(); ++id) {
    if (graph.value(id).source == Source::input) values += element_count(graph.dims(id));
  }
  for (const GraphOutput& output : description.outputs) {
    if (output.parameter < 0) values += element_count(graph.dims(output.value));
  }
  return static_cast<size_t>(values) * size_of(dtype);
}

size_t planned_bytes(const Plan& plan, const Network& network, DType dtype) {
  return static_cast<size_t>(plan.arena_bytes) +
         static_cast<size_t>(constant_layout(network).length()) * size_of(dtype);
}

size_t planned_bytes(const ProgramDescription& description, const Network& network, DType dtype) {
  return planned_bytes(make_plan(description, dtype), network, dtype);
}

}  // namespace palimpsest
