// A planned graph: one arena, one list of steps, run on a backend as often as wanted without allocating.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "graph/network.h"
#include "ops/graph.h"

namespace palimpsest {

// What a graph yields besides values per row: sums that go into a parameter-space vector.
struct GraphOutput {
  ValueId value = none;
  int32_t parameter = -1;  // -1: a plain output (rows), bound by its position among the plain outputs
  uint32_t group = 0;      // below 32: outputs that are asked for together
};

struct ProgramDescription {
  Graph graph;
  std::vector<GraphOutput> outputs;
  bool holdable = false;                     // plan memory so that hold and apply work
  uint32_t late_inputs = 0;                  // inputs that apply brings, a bit an InputSlot
  Precision precision = Precision::float32;  // of its products, where the program is float32
};

// Buffers of one run, all on the backend's device, dense row-major, in the program's type unless said.
struct Bindings {
  const void* inputs[input_slots] = {};
  const void* parameters = nullptr;  // flat, by the layout
  const void* tangents = nullptr;    // flat, by the layout
  std::vector<void*> rows;           // plain outputs, written whole
  void* sums = nullptr;              // flat: entries of parameter outputs are added to (accumulate) or overwritten
  bool accumulate = false;
  uint32_t groups = ~0u;  // apply: the outputs that are wanted, a bit a group
};

struct Plan;
struct Step;

class Program {
 public:
  // Throws ERR_OUT_OF_MEMORY, before anything is allocated, where the device has less than the program needs.
  Program(ProgramDescription description, const Network& network, std::shared_ptr<Backend> backend, DType dtype);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void run(const Bindings& bindings);

  // What one batch keeps between hold and apply: held_bytes() of device memory, and where its inputs lie.
  class Held;
  std::shared_ptr<Held> make_held() const;

  // Linearise once, apply often: `hold` runs the steps that do not depend on tangents and keeps what the others read;
  // `apply` runs the others that the wanted groups need. The parameters of hold must stay alive and as they are, and so
  // must the inputs that held_inputs() names. Without `held` the program keeps one batch itself.
  void hold(const Bindings& bindings);
  void apply(const Bindings& bindings);
  void hold(const Bindings& bindings, Held& held);
  void apply(const Bindings& bindings, const Held& held);

  // Runs steps `from` and after it one by one, as often as `visit` calls the function it is given, until visit returns
  // false. Returns the step to go on with, step_count() at the end.
  using Visit = std::function<bool(const Step& step, const std::function<void()>& execute)>;
  int visit(const Bindings& bindings, int from, const Visit& visit);

  const Plan& plan() const;
  const Graph& graph() const;
  DType dtype() const;
  Precision precision() const;
  int64_t batch() const;
  size_t arena_bytes() const;  // planned before anything is allocated; what one held batch keeps is among them
  size_t held_bytes() const;
  uint32_t held_inputs() const;  // a bit an InputSlot
  size_t constant_bytes() const;
  double flops() const;
  double bytes() const;
  int step_count() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Bytes of a graph's inputs and plain outputs: what stands in the bindings besides vectors.
size_t binding_bytes(const ProgramDescription& description, DType dtype);

// Bytes that a program of this plan would take on the device besides its bindings.
size_t planned_bytes(const Plan& plan, const Network& network, DType dtype);
// Bytes that a program would take on the device, without making it.
size_t planned_bytes(const ProgramDescription& description, const Network& network, DType dtype);

}  // namespace palimpsest
