// The graph that rules read and emit: values with concrete dimensions, nodes that are rows of the operator table.
#pragma once

#include <deque>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/shape.h"
#include "core/tensor.h"
#include "ops/operators.h"

namespace palimpsest {

using ValueId = int32_t;
constexpr ValueId none = -1;  // an absent input, tangent or cotangent; an absent tangent means zero

// Attributes of a node; ONNX's names. Each row says in its file which it reads.
struct Attributes {
  Dims kernel, strides, pads, dilations;  // spatial, two axes; pads = top, left, bottom, right; empty: 1 and 0
  int64_t group = 1;
  Dims dims;           // Reshape, Expand, Unslice, adjoints: the result's dimensions
  Dims axes;           // ReduceSum
  Dims perm;           // Transpose
  Dims starts, steps;  // Slice, Unslice: one entry per axis
  Dims indices;        // Gather, ScatterAdd
  int64_t axis = 0;    // Softmax, Concat, Gather, ReduceMax, TakeAlongAxis
  int64_t order = 0;   // unary rows: which derivative; with order >= 1 there is a second input that multiplies
  bool trans_a = false, trans_b = false;  // MatMul
  bool count_pads = false;                // AveragePool
  double alpha = 1, beta = 0;  // unary parameters; ReduceSum, MatMul: a factor (alpha); ConstantOfShape: alpha
  double epsilon = 1e-5;       // normalisations

  friend bool operator==(const Attributes&, const Attributes&) = default;
};

enum class Source : uint8_t {
  computed,
  input,      // index: which of InputSlot
  parameter,  // index into the parameter list
  tangent,    // of a parameter, the same index
  constant,   // index into the constants
};

// The batch-sized inputs that a graph may read.
enum InputSlot : int32_t {
  input_x = 0,          // [B, ...input shape]
  input_target = 1,     // [B, K] one-hot or scaled targets
  input_weight = 2,     // [B, 1] weight of each row: 1/n, 0 in the padded tail
  input_cotangent = 3,  // [B, K]
  input_slots = 4,
};

// Where the examples lie in a value: axis `axis` has size outer * B * inner, examples in the middle.
struct BatchAxis {
  static constexpr int32_t absent = -1;  // the value does not depend on examples
  static constexpr int32_t mixed = -2;   // examples were summed or mixed; legal in gradients, never in a network

  int32_t axis = absent;
  int64_t outer = 1, inner = 1;

  bool present() const { return axis >= 0; }
  friend bool operator==(const BatchAxis&, const BatchAxis&) = default;
};

struct Value {
  Dims dims;
  bool is_index = false;  // int32 positions, no derivative
  Source source = Source::computed;
  int32_t index = 0;
  ValueId node = none;  // the node that computes it, and which output it is
  int32_t output = 0;
  BatchAxis batch;
};

struct Node {
  Op op = Op::Relu;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  Attributes attributes;
};

class Graph {
 public:
  explicit Graph(int64_t batch) : batch_(batch) {}

  int64_t batch() const { return batch_; }

  ValueId add_input(InputSlot slot, Dims dims);
  ValueId add_parameter(int32_t index, Dims dims);
  ValueId add_tangent(int32_t index, Dims dims);
  ValueId add_constant(int32_t index, Dims dims);

  // Checks arity and shapes by the row's rules, throws ERR_SHAPE naming operator and shapes. Returns the first output;
  // an identical earlier node is reused.
  ValueId append(Op op, std::vector<ValueId> inputs, Attributes attributes = {});

  const Value& value(ValueId id) const { return values_[static_cast<size_t>(id)]; }
  const Node& node(ValueId id) const { return nodes_[static_cast<size_t>(id)]; }
  const Dims& dims(ValueId id) const { return value(id).dims; }
  int32_t value_count() const { return static_cast<int32_t>(values_.size()); }
  int32_t node_count() const { return static_cast<int32_t>(nodes_.size()); }
  // Another output of the node that computed `id`.
  ValueId sibling(ValueId id, int output) const { return node(value(id).node).outputs[static_cast<size_t>(output)]; }

  // Compositions that rules use often; absent operands are zero.
  ValueId add(ValueId a, ValueId b);            // none + b = b
  ValueId mul(ValueId a, ValueId b);            // none * b = none
  ValueId scale(ValueId a, double factor);      // factor * a
  ValueId sum_to(ValueId a, const Dims& dims);  // adjoint of broadcasting from dims
  ValueId expand(ValueId a, const Dims& dims);  // broadcast a to dims
  ValueId reshape(ValueId a, const Dims& dims);
  ValueId transpose(ValueId a, const Dims& perm);

 private:
  ValueId add_leaf(Source source, int32_t index, Dims dims, BatchAxis batch);

  int64_t batch_;
  std::deque<Value> values_;  // deques: references stay valid while rules append
  std::deque<Node> nodes_;
  std::unordered_multimap<uint64_t, int32_t> by_hash_;  // node indices, for reuse of identical nodes
};

}  // namespace palimpsest
