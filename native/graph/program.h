// A planned graph: one arena, one list of steps, run on a backend as often as wanted without allocating.
#pragma once

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
};

struct ProgramDescription {
  Graph graph;
  std::vector<GraphOutput> outputs;
  bool holdable = false;  // plan memory so that hold and apply work
};

// Buffers of one run, all on the backend's device, dense row-major, in the program's type unless said.
struct Bindings {
  const void* inputs[input_slots] = {};
  const void* parameters = nullptr;  // flat, by the layout
  const void* tangents = nullptr;    // flat, by the layout
  std::vector<void*> rows;           // plain outputs, written whole
  void* sums = nullptr;              // flat: entries of parameter outputs are added to (accumulate) or overwritten
  bool accumulate = false;
};

class Program {
 public:
  Program(ProgramDescription description, const Network& network, std::shared_ptr<Backend> backend, DType dtype);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void run(const Bindings& bindings);

  // Linearise once, apply often: `hold` runs the steps that do not depend on tangents and keeps what the others read;
  // `apply` runs the others. The inputs of hold must stay alive.
  void hold(const Bindings& bindings);
  void apply(const Bindings& bindings);

  DType dtype() const;
  int64_t batch() const;
  size_t arena_bytes() const;  // planned before anything is allocated
  size_t constant_bytes() const;
  double flops() const;
  double bytes() const;
  int step_count() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Bytes that a program would take on the device, without making it.
size_t planned_bytes(const ProgramDescription& description, const Network& network, DType dtype);

}  // namespace palimpsest
