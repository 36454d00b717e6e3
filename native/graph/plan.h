// A plan: layouts, buffers, memory offsets and steps for a graph, all decided before anything is allocated.
#pragma once

#include <vector>

#include "graph/program.h"
#include "graph/schedule.h"

namespace palimpsest {

enum class Storage : uint8_t { arena, input, parameter, tangent, constant, rows, sums };

// A place that holds one value in one layout.
struct Buffer {
  DType dtype = DType::f32;
  Dims dims;
  Layout layout = Layout::row_major;
  Storage storage = Storage::arena;
  int32_t index = 0;   // which input, parameter, constant
  int32_t root = -1;   // the buffer whose memory this one shares; itself if none
  int64_t offset = 0;  // arena: bytes, decided for roots
  bool held = false;   // roots: lies in the arena's first part, which every batch that is held has for itself
  int64_t bytes = 0;
  int32_t first = -1, last = -1;  // steps that write it first and read it last (roots)
  bool tangent = false;           // roots: written by a step that depends on tangents
  int32_t output = -1;            // roots: the graph output that may be written in place of the arena
};

struct Step {
  int32_t node = -1;         // the node, for cost and for its rule; -1 for reorders and passes
  bool elementwise = false;  // runs `program`
  int32_t epilogue = 0;      // above 0: `program` follows the node; the inputs from here on are its own
  bool tangent = false;
  uint32_t groups = 0;  // of the outputs that need it, a bit a group
  ElementwiseProgram program;
  std::vector<int32_t> inputs, outputs;               // buffers
  std::vector<Tensor> input_tensors, output_tensors;  // strides decided; data is patched when a run starts
};

struct Plan {
  std::vector<Buffer> buffers;
  std::vector<Step> steps;
  std::vector<int32_t> outputs;  // buffer of each graph output, row-major; -1 where it is zero
  int64_t arena_bytes = 0;
  int64_t held_bytes = 0;    // of these, what hold writes for apply to read
  uint32_t held_inputs = 0;  // inputs that apply reads again, a bit an InputSlot
  double flops = 0, bytes = 0;
};

// The graph must outlive the plan's use (steps name its nodes).
Plan make_plan(const ProgramDescription& description, DType dtype, bool fuse = true);

}  // namespace palimpsest
