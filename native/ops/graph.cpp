// The graph that rules read and emit.
#include "ops/graph.h"

#include <cstring>

#include "core/error.h"
#include "ops/table.h"

namespace palimpsest {

namespace {

// A 64-bit mix of the parts that make two nodes the same.
class Hash {
 public:
  void add(uint64_t word) {
    value_ ^= word + 0x9e3779b97f4a7c15ull + (value_ << 6) + (value_ >> 2);
    value_ *= 0xff51afd7ed558ccdull;
  }
  void add(double number) {
    uint64_t word;
    std::memcpy(&word, &number, sizeof word);
    add(word);
  }
  void add(const Dims& dims) {
    add(static_cast<uint64_t>(dims.size()));
    for (int64_t d : dims) add(static_cast<uint64_t>(d));
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 14695981039346656037ull;
};

uint64_t hash_of(Op op, const std::vector<ValueId>& inputs, const Attributes& a) {
  Hash hash;
  hash.add(static_cast<uint64_t>(op));
  for (ValueId id : inputs) hash.add(static_cast<uint64_t>(id));
  for (const Dims* dims :
       {&a.kernel, &a.strides, &a.pads, &a.dilations, &a.dims, &a.axes, &a.perm, &a.starts, &a.steps}) {
    hash.add(*dims);
  }
  hash.add(static_cast<uint64_t>(a.indices.size()));
  hash.add(static_cast<uint64_t>(a.axis));
  hash.add(static_cast<uint64_t>(a.order));
  hash.add(a.alpha);
  hash.add(a.beta);
  return hash.value();
}

std::string describe(const Graph& graph, Op op, const std::vector<ValueId>& inputs) {
  std::string text = std::string(row_of(op).name) + "(";
  for (size_t i = 0; i < inputs.size(); ++i) {
    text += (i ? ", " : "") + (inputs[i] == none ? std::string("absent") : to_string(graph.dims(inputs[i])));
  }
  return text + ")";
}

// Nothing is empty: no rule or kernel has to think of an axis of size 0, and products of sizes cannot overflow.
void check_dims(const Dims& dims) {
  for (int64_t d : dims) {
    if (d < 1) throw Error(ErrorCode::shape, "expected dimensions of 1 or more, got " + to_string(dims));
  }
  element_count(dims);
}

// Rows that read positions, all in input 1; positions are nothing to calculate with.
bool reads_index(Op op, size_t input) {
  const bool follows =
      op == Op::TakeAlongAxis || op == Op::PutAlongAxis || op == Op::PoolGather || op == Op::PoolScatter;
  return follows && input == 1;
}

void check_inputs(const Graph& graph, Op op, const std::vector<ValueId>& inputs) {
  const Row& row = row_of(op);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const ValueId id = inputs[i];
    if (id < 0 || id >= graph.value_count()) {
      throw Error(ErrorCode::model_format,
                  std::string("expected inputs of ") + row.name + " that exist, got id " + std::to_string(id));
    }
    if (graph.value(id).is_index == reads_index(op, i)) continue;
    const char* expected = reads_index(op, i) ? "positions of maxima" : "values";
    const char* got = reads_index(op, i) ? "values" : "positions of maxima";
    throw Error(ErrorCode::model_format, std::string("expected ") + expected + " for input " + std::to_string(i) +
                                             " of " + row.name + ", got " + got);
  }
}

}  // namespace

ValueId Graph::add_leaf(Source source, int32_t index, Dims dims, BatchAxis batch) {
  check_dims(dims);
  Value value;
  value.dims = std::move(dims);
  value.source = source;
  value.index = index;
  value.batch = batch;
  values_.push_back(std::move(value));
  return value_count() - 1;
}

ValueId Graph::add_input(InputSlot slot, Dims dims) {
  return add_leaf(Source::input, slot, std::move(dims), {0, 1, 1});
}
ValueId Graph::add_parameter(int32_t index, Dims dims) {
  return add_leaf(Source::parameter, index, std::move(dims), {});
}
ValueId Graph::add_tangent(int32_t index, Dims dims) { return add_leaf(Source::tangent, index, std::move(dims), {}); }
ValueId Graph::add_constant(int32_t index, Dims dims) { return add_leaf(Source::constant, index, std::move(dims), {}); }

ValueId Graph::append(Op op, std::vector<ValueId> inputs, Attributes attributes) {
  const Row& row = row_of(op);
  const int count = static_cast<int>(inputs.size());
  if (count < row.min_inputs || (count > row.max_inputs && row.max_inputs >= 0)) {
    throw Error(ErrorCode::shape, std::string("expected ") + std::to_string(row.min_inputs) + " or more inputs for " +
                                      row.name + ", got " + std::to_string(count));
  }
  check_inputs(*this, op, inputs);
  const uint64_t hash = hash_of(op, inputs, attributes);
  for (auto [it, end] = by_hash_.equal_range(hash); it != end; ++it) {
    const Node& other = nodes_[static_cast<size_t>(it->second)];
    if (other.op == op && other.inputs == inputs && other.attributes == attributes) return other.outputs[0];
  }

  Node node;
  node.op = op;
  node.inputs = std::move(inputs);
  node.attributes = std::move(attributes);
  std::vector<Value> outputs(static_cast<size_t>(row.outputs));
  try {
    row.shape(*this, node, outputs);
    for (Value& output : outputs) check_dims(output.dims);
  } catch (const Error& error) {
    throw Error(error.code(), describe(*this, op, node.inputs) + ": " + error.what());
  }
  const int32_t index = node_count();
  for (int i = 0; i < row.outputs; ++i) {
    Value& output = outputs[static_cast<size_t>(i)];
    output.node = index;
    output.output = i;
    values_.push_back(output);
    node.outputs.push_back(value_count() - 1);
  }
  nodes_.push_back(std::move(node));
  by_hash_.emplace(hash, index);
  const BatchAxis batch = row.batch(*this, nodes_.back());
  for (ValueId id : nodes_.back().outputs) values_[static_cast<size_t>(id)].batch = batch;
  return nodes_.back().outputs[0];
}

ValueId Graph::add(ValueId a, ValueId b) {
  if (a == none) return b;
  if (b == none) return a;
  return append(Op::Add, {a, b});
}

ValueId Graph::mul(ValueId a, ValueId b) {
  if (a == none || b == none) return none;
  return append(Op::Mul, {a, b});
}

ValueId Graph::scale(ValueId a, double factor) {
  if (a == none || factor == 1) return a;
  Attributes attributes;
  attributes.alpha = factor;
  return append(Op::Affine, {a}, attributes);
}

ValueId Graph::sum_to(ValueId a, const Dims& to) {
  if (a == none || dims(a) == to) return a;
  const Dims from = dims(a);
  const size_t lead = from.size() - to.size();
  Attributes attributes;
  for (size_t i = 0; i < from.size(); ++i) {
    if (i < lead || (to[i - lead] == 1 && from[i] != 1)) attributes.axes.push_back(static_cast<int64_t>(i));
  }
  if (!attributes.axes.empty()) a = append(Op::ReduceSum, {a}, attributes);
  return reshape(a, to);
}

ValueId Graph::expand(ValueId a, const Dims& to) {
  if (a == none || dims(a) == to) return a;
  Attributes attributes;
  attributes.dims = to;
  return append(Op::Expand, {a}, attributes);
}

ValueId Graph::reshape(ValueId a, const Dims& to) {
  if (a == none || dims(a) == to) return a;
  Attributes attributes;
  attributes.dims = to;
  return append(Op::Reshape, {a}, attributes);
}

ValueId Graph::transpose(ValueId a, const Dims& perm) {
  if (a == none) return none;
  bool identity = true;
  for (size_t i = 0; i < perm.size(); ++i) identity = identity && perm[i] == static_cast<int64_t>(i);
  if (identity) return a;
  Attributes attributes;
  attributes.perm = perm;
  return append(Op::Transpose, {a}, attributes);
}

}  // namespace palimpsest
