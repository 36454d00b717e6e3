// Layouts, buffers and steps of a graph.
#include "graph/plan.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "graph/memory.h"
#include "ops/table.h"

namespace palimpsest {

namespace {

class Planner {
 public:
  Planner(const ProgramDescription& description, DType dtype, bool fuse)
      : graph_(description.graph),
        description_(description),
        dtype_(dtype),
        fuse_(fuse),
        holders_(static_cast<size_t>(graph_.value_count())) {}

  Plan run() {
    std::vector<ValueId> outputs;
    for (const GraphOutput& output : description_.outputs) {
      const bool zero = output.value == none;  // has no dimensions of its own
      if (zero ? output.parameter < 0 : graph_.value(output.value).is_index) {
        throw Error(ErrorCode::internal, "expected outputs that are values, or a parameter's zero");
      }
      outputs.push_back(output.value);
    }
    const std::vector<Pass> passes = schedule(graph_, outputs, fuse_, description_.late_inputs);
    note_readers(passes);
    const std::vector<int32_t> products = fuse_ ? products_of(passes) : std::vector<int32_t>(passes.size(), none);
    std::vector<char> runs_later(static_cast<size_t>(graph_.node_count()), 0);
    for (int32_t product : products) {
      if (product != none) runs_later[static_cast<size_t>(product)] = 1;
    }
    for (size_t i = 0; i < passes.size(); ++i) {
      const Pass& pass = passes[i];
      tangent_ = pass.tangent;
      if (pass.elementwise) {
        add_elementwise(pass, products[i]);
      } else if (runs_later[static_cast<size_t>(pass.nodes[0])] == 0) {
        add_node(pass.nodes[0]);
      }
      for (int32_t node : pass.nodes) count_cost(node);
    }
    add_outputs();
    mark_groups();
    assign_memory(plan_, description_.holdable, description_.late_inputs);
    return std::move(plan_);
  }

 private:
  // Only nodes that run count: of what derivatives leave behind unused, nothing is read.
  void note_readers(const std::vector<Pass>& passes) {
    readers_.resize(static_cast<size_t>(graph_.value_count()));
    for (const Pass& pass : passes) {
      for (int32_t node : pass.nodes) {
        for (ValueId input : graph_.node(node).inputs) readers_[static_cast<size_t>(input)].push_back(node);
      }
    }
  }

  // Of each pass the product whose epilogue it is. It runs in the pass's place, where all that the pass reads is there,
  // and nothing else may read what it gives.
  std::vector<int32_t> products_of(const std::vector<Pass>& passes) {
    std::vector<size_t> place(static_cast<size_t>(graph_.node_count()), 0);
    for (size_t i = 0; i < passes.size(); ++i) place[static_cast<size_t>(passes[i].nodes[0])] = i;
    const auto place_of = [&](int32_t node) { return place[static_cast<size_t>(node)]; };
    std::vector<int32_t> products(passes.size(), none);
    for (size_t i = 0; i < passes.size(); ++i) {
      const Pass& pass = passes[i];
      if (!pass.elementwise || results(pass).size() != 1) continue;
      for (ValueId id : operands(pass)) {
        const Value& value = graph_.value(id);
        if (value.source != Source::computed || !may_follow(pass, id)) continue;
        if (passes[place_of(value.node)].tangent != pass.tangent) continue;
        // Of several the last: the others' results wait anyway, and their operands need not.
        if (products[i] == none || place_of(value.node) > place_of(products[i])) products[i] = value.node;
      }
    }
    return products;
  }

  bool may_follow(const Pass& pass, ValueId id) {
    return row_of(graph_.node(graph_.value(id).node).op).forward_epilogue != nullptr && !read_outside(id, pass) &&
           graph_.dims(id) == graph_.dims(graph_.node(pass.nodes[0]).outputs[0]);
  }

  void count_cost(int32_t node) {
    const Cost cost = row_of(graph_.node(node).op).cost(graph_, graph_.node(node));
    plan_.flops += cost.flops;
    plan_.bytes += cost.bytes * static_cast<double>(size_of(dtype_)) + cost.index_bytes;
  }

  static Layout canonical(const Dims& dims, Layout layout) {
    return dims.size() != 4 || layouts_coincide(dims) ? Layout::row_major : layout;
  }

  int32_t new_buffer(ValueId id, Layout layout, Storage storage, int32_t index) {
    const Value& value = graph_.value(id);
    Buffer buffer;
    buffer.dtype = value.is_index ? DType::i32 : dtype_;
    buffer.dims = value.dims;
    buffer.layout = layout;
    buffer.storage = storage;
    buffer.index = index;
    buffer.bytes = element_count(value.dims) * static_cast<int64_t>(size_of(buffer.dtype));
    buffer.root = static_cast<int32_t>(plan_.buffers.size());
    plan_.buffers.push_back(buffer);
    return buffer.root;
  }

  // The buffer that a computed value is written to.
  int32_t define(ValueId id, Layout layout) {
    layout = canonical(graph_.dims(id), layout);
    return holders_[static_cast<size_t>(id)][layout] = new_buffer(id, layout, Storage::arena, 0);
  }

  int32_t leaf(ValueId id) {
    const Value& value = graph_.value(id);
    Storage storage = Storage::input;
    if (value.source == Source::parameter) storage = Storage::parameter;
    if (value.source == Source::tangent) storage = Storage::tangent;
    if (value.source == Source::constant) storage = Storage::constant;
    return holders_[static_cast<size_t>(id)][Layout::row_major] =
               new_buffer(id, Layout::row_major, storage, value.index);
  }

  bool has(ValueId id, Layout layout) const {
    return holders_[static_cast<size_t>(id)].count(canonical(graph_.dims(id), layout)) != 0;
  }

  // The value in whichever layout it already has.
  int32_t any(ValueId id) {
    auto& held = holders_[static_cast<size_t>(id)];
    return held.empty() ? leaf(id) : held.begin()->second;
  }

  int32_t get(ValueId id, Layout layout) {
    layout = canonical(graph_.dims(id), layout);
    auto& held = holders_[static_cast<size_t>(id)];
    if (held.empty()) leaf(id);
    if (const auto found = held.find(layout); found != held.end()) return found->second;
    const int32_t from = held.begin()->second;
    const int32_t to = define(id, layout);
    Step step;  // a reorder is the elementwise program of no instruction
    step.program.inputs = 1;
    step.program.outputs = {0};
    step.elementwise = true;
    step.tangent = depends_on_tangent(from);
    push(std::move(step), {from}, {to});
    return to;
  }

  bool depends_on_tangent(int32_t buffer) const {
    const Buffer& root = plan_.buffers[static_cast<size_t>(plan_.buffers[static_cast<size_t>(buffer)].root)];
    const bool late = root.storage == Storage::input && (description_.late_inputs >> root.index & 1) != 0;
    return root.storage == Storage::tangent || root.tangent || late;
  }

  Tensor tensor_of(int32_t buffer) const {
    const Buffer& b = plan_.buffers[static_cast<size_t>(buffer)];
    return dense_tensor(nullptr, b.dtype, b.dims, b.layout);
  }

  void push(Step step, std::vector<int32_t> inputs, std::vector<int32_t> outputs) {
    step.inputs = std::move(inputs);
    step.outputs = std::move(outputs);
    for (int32_t b : step.inputs) step.input_tensors.push_back(tensor_of(b));
    for (int32_t b : step.outputs) step.output_tensors.push_back(tensor_of(b));
    const int32_t place = static_cast<int32_t>(plan_.steps.size());
    for (int32_t b : step.outputs) {
      Buffer& root = plan_.buffers[static_cast<size_t>(plan_.buffers[static_cast<size_t>(b)].root)];
      if (root.first < 0) root.first = place;
      root.last = std::max(root.last, place);
      root.tangent = root.tangent || step.tangent;
    }
    for (int32_t b : step.inputs) {
      Buffer& root = plan_.buffers[static_cast<size_t>(plan_.buffers[static_cast<size_t>(b)].root)];
      root.last = std::max(root.last, place);
    }
    plan_.steps.push_back(std::move(step));
  }

  // Channels-last where any operand of rank 4 that is not a small broadcast one already is.
  Layout strided_layout(const Dims& dims, const std::vector<ValueId>& inputs) {
    if (dims.size() != 4) return Layout::row_major;
    for (ValueId id : inputs) {
      if (graph_.dims(id).size() == 4 && !layouts_coincide(graph_.dims(id)) && has(id, Layout::channels_last)) {
        return Layout::channels_last;
      }
    }
    return Layout::row_major;
  }

  // Distinct values that a pass reads from outside, in the order of reading.
  std::vector<ValueId> operands(const Pass& pass) const {
    std::vector<ValueId> found;
    for (int32_t node : pass.nodes) {
      for (ValueId id : graph_.node(node).inputs) {
        const Value& value = graph_.value(id);
        const bool inside = value.source == Source::computed &&
                            std::find(pass.nodes.begin(), pass.nodes.end(), value.node) != pass.nodes.end();
        if (!inside && std::find(found.begin(), found.end(), id) == found.end()) found.push_back(id);
      }
    }
    return found;
  }

  // What a pass makes for others.
  std::vector<ValueId> results(const Pass& pass) {
    std::vector<ValueId> made;
    for (int32_t node : pass.nodes) {
      const ValueId id = graph_.node(node).outputs[0];
      if (read_outside(id, pass)) made.push_back(id);
    }
    return made;
  }

  // The program of a pass over `inputs`, which are its operands in some order.
  ElementwiseProgram program_of(const Pass& pass, const std::vector<ValueId>& inputs) {
    ElementwiseProgram program;
    program.inputs = static_cast<int32_t>(inputs.size());
    std::map<ValueId, int32_t> registers;
    for (ValueId id : inputs) registers.emplace(id, static_cast<int32_t>(registers.size()));
    for (int32_t n : pass.nodes) {
      const Node& node = graph_.node(n);
      Instruction instruction = row_of(node.op).instruction(node);
      for (int32_t* r : {&instruction.a, &instruction.b, &instruction.c}) {
        if (*r >= 0) *r = registers.at(node.inputs[static_cast<size_t>(*r)]);
      }
      registers[node.outputs[0]] = program.inputs + static_cast<int32_t>(program.instructions.size());
      program.instructions.push_back(instruction);
    }
    for (ValueId id : results(pass)) program.outputs.push_back(registers.at(id));
    return program;
  }

  // Operands of a pass, broadcast ones in any layout.
  std::vector<int32_t> buffers_of(const std::vector<ValueId>& inputs, const Dims& dims, Layout layout) {
    std::vector<int32_t> buffers;
    for (ValueId id : inputs) buffers.push_back(graph_.dims(id) == dims ? get(id, layout) : any(id));
    return buffers;
  }

  void add_elementwise(const Pass& pass, int32_t product) {
    if (product != none) return add_epilogue(pass, product);
    const Dims dims = graph_.dims(graph_.node(pass.nodes[0]).outputs[0]);
    const std::vector<ValueId> inputs = operands(pass);
    const Layout layout = strided_layout(dims, inputs);
    Step step;
    step.elementwise = true;
    step.tangent = pass.tangent;
    step.program = program_of(pass, inputs);
    std::vector<int32_t> in = buffers_of(inputs, dims, layout), out;
    for (ValueId id : results(pass)) out.push_back(define(id, layout));
    push(std::move(step), std::move(in), std::move(out));
    broadcast_inputs(0, dims);
  }

  // The product's inputs, then what the program reads: the result, in whose memory the product is made, and the rest.
  void add_epilogue(const Pass& pass, int32_t product) {
    const Node& node = graph_.node(product);
    const Dims dims = graph_.dims(node.outputs[0]);
    const Layout layout = (row_of(node.op).results & 1) != 0 ? Layout::channels_last : Layout::row_major;
    std::vector<ValueId> inputs = operands(pass);
    std::stable_partition(inputs.begin(), inputs.end(), [&](ValueId id) { return id == node.outputs[0]; });
    Step step;
    step.node = product;
    step.epilogue = static_cast<int32_t>(node.inputs.size());
    step.tangent = pass.tangent;
    step.program = program_of(pass, inputs);
    std::vector<int32_t> in = node_inputs(node);
    const std::vector<int32_t> others = buffers_of({inputs.begin() + 1, inputs.end()}, dims, layout);
    const int32_t out = define(results(pass)[0], layout);
    in.push_back(out);
    in.insert(in.end(), others.begin(), others.end());
    const size_t own = node.inputs.size();
    push(std::move(step), std::move(in), {out});
    broadcast_inputs(own, dims);
  }

  // Inputs of the last step, from one on, as they lie over `dims`.
  void broadcast_inputs(size_t from, const Dims& dims) {
    std::vector<Tensor>& tensors = plan_.steps.back().input_tensors;
    for (size_t i = from; i < tensors.size(); ++i) {
      tensors[i].strides = broadcast_strides(tensors[i].dims, tensors[i].strides, dims);
      tensors[i].dims = dims;
    }
  }

  bool read_outside(ValueId id, const Pass& pass) {
    for (const GraphOutput& output : description_.outputs) {
      if (output.value == id) return true;
    }
    const auto& readers = readers_[static_cast<size_t>(id)];
    return std::any_of(readers.begin(), readers.end(), [&](int32_t reader) {
      return std::find(pass.nodes.begin(), pass.nodes.end(), reader) == pass.nodes.end();
    });
  }

  void add_node(int32_t index) {
    const Node& node = graph_.node(index);
    const Row& row = row_of(node.op);
    if (row.layout == LayoutRule::alias) {
      add_alias(node);
      return;
    }
    std::vector<int32_t> in = node_inputs(node), out;
    Layout layout = Layout::row_major;
    if (row.layout == LayoutRule::strided) layout = strided_layout(graph_.dims(node.outputs[0]), node.inputs);
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const bool result = row.layout == LayoutRule::channels_last && (row.results >> i & 1) != 0;
      out.push_back(define(node.outputs[i], result ? Layout::channels_last : layout));
    }
    Step step;
    step.node = index;
    step.tangent = tangent_;
    push(std::move(step), std::move(in), std::move(out));
  }

  // A node's operands in the layouts that its row accepts.
  std::vector<int32_t> node_inputs(const Node& node) {
    const Row& row = row_of(node.op);
    std::vector<int32_t> in;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId id = node.inputs[i];
      if (row.layout == LayoutRule::strided) {
        in.push_back(any(id));
      } else {
        const bool activation = row.layout == LayoutRule::channels_last && (row.activations >> i & 1) != 0;
        in.push_back(get(id, activation ? Layout::channels_last : Layout::row_major));
      }
    }
    return in;
  }

  // Reshape: the result is the input's row-major memory under other dimensions.
  void add_alias(const Node& node) {
    const int32_t from = get(node.inputs[0], Layout::row_major);
    const int32_t root = plan_.buffers[static_cast<size_t>(from)].root;
    const int32_t to = define(node.outputs[0], Layout::row_major);
    Buffer& made = plan_.buffers[static_cast<size_t>(to)];
    made.root = root;
    made.storage = plan_.buffers[static_cast<size_t>(root)].storage;
    made.index = plan_.buffers[static_cast<size_t>(root)].index;
  }

  void add_outputs() {
    for (const GraphOutput& output : description_.outputs) {
      plan_.outputs.push_back(output.value == none ? -1 : get(output.value, Layout::row_major));
    }
    // Only now is the last step known: an output may have needed a reorder.
    const int32_t end = static_cast<int32_t>(plan_.steps.size());
    for (size_t i = 0; i < plan_.outputs.size(); ++i) {
      if (plan_.outputs[i] < 0) continue;
      const Buffer& buffer = plan_.buffers[static_cast<size_t>(plan_.outputs[i])];
      Buffer& root = plan_.buffers[static_cast<size_t>(buffer.root)];
      root.last = end;  // read after the last step
      const bool whole = root.bytes == buffer.bytes;
      if (root.storage == Storage::arena && root.output < 0 && whole) root.output = static_cast<int32_t>(i);
    }
  }

  // Which outputs need a step: backwards from them.
  void mark_groups() {
    std::vector<uint32_t> needed(plan_.buffers.size(), 0);
    const auto root_of = [&](int32_t b) { return static_cast<size_t>(plan_.buffers[static_cast<size_t>(b)].root); };
    for (size_t i = 0; i < plan_.outputs.size(); ++i) {
      if (plan_.outputs[i] >= 0) needed[root_of(plan_.outputs[i])] |= 1u << description_.outputs[i].group;
    }
    for (size_t i = plan_.steps.size(); i-- > 0;) {
      Step& step = plan_.steps[i];
      for (int32_t b : step.outputs) step.groups |= needed[root_of(b)];
      for (int32_t b : step.inputs) needed[root_of(b)] |= step.groups;
    }
  }

  const Graph& graph_;
  const ProgramDescription& description_;
  const DType dtype_;
  const bool fuse_;
  bool tangent_ = false;
  Plan plan_;
  std::vector<std::map<Layout, int32_t>> holders_;
  std::vector<std::vector<int32_t>> readers_;
};

}  // namespace

Plan make_plan(const ProgramDescription& description, DType dtype, bool fuse) {
  return Planner(description, dtype, fuse).run();
}

}  // namespace palimpsest
