// THE OPERATOR TABLE: a row per operator with shape, batch, forward, derivative and cost rules, each written once.
#pragma once

#include <span>
#include <vector>

#include "backend/backend.h"
#include "ops/graph.h"

namespace palimpsest {

// How a row's derivative follows. JVPs of linear, bilinear and elementwise rows come from the form.
enum class Form : uint8_t {
  linear,       // in input 0; other inputs are not differentiable (indices)
  bilinear,     // in inputs 0 and 1
  elementwise,  // unary rows: f^(order)(x), times input 1 where order >= 1
  custom,       // jvp and vjp by hand
  constant,     // no derivative (comparisons)
};

// Which layouts a row accepts.
enum class LayoutRule : uint8_t {
  row_major,      // every operand row-major, result row-major
  channels_last,  // inputs 0.. of rank 4 that are activations (see `activations`) and the outputs are channels-last
  strided,        // any layout; the output takes the layout of the largest rank-4 input
  alias,          // Reshape: the same memory, row-major
};

// What the kernels do for a node by itself. A multiplication and an addition count as two operations.
struct Cost {
  double flops = 0;
  double bytes = 0;        // each operand once, as far as it is read, in elements of the working type
  double index_bytes = 0;  // of positions, in bytes
};

using ShapeRule = void (*)(const Graph&, const Node&, std::vector<Value>& outputs);  // sets dims (and is_index)
using BatchRule = BatchAxis (*)(const Graph&,
                                const Node&);  // where the examples are in output 0; mixed where it sums them
using Forward = void (*)(const Node&, Backend&, std::span<const Tensor> inputs, std::span<const Tensor> outputs);
// The same for a row whose one result an epilogue may follow at once; what that reads comes after the node's inputs.
using EpilogueForward = void (*)(const Node&, Backend&, std::span<const Tensor> inputs, const Tensor& output,
                                 const Epilogue&);
using InstructionRule = Instruction (*)(const Node&);  // elementwise rows: registers a, b, c = inputs 0, 1, 2
using JvpRule = ValueId (*)(Graph&, const Node&, std::span<const ValueId> x_dot);
using VjpRule = void (*)(Graph&, const Node&, ValueId y_bar, std::span<const bool> wanted, std::span<ValueId> x_bar);
// Sum over examples of the squared per-example gradient with respect to input `which`; none where there is no quick
// rule.
using SquaresRule = ValueId (*)(Graph&, const Node&, ValueId y_bar, int which);
// How squares pass back through a row whose input 0 depends on one parameter only (reshape, permutation, scaling).
using SquaresThroughRule = ValueId (*)(Graph&, const Node&, ValueId squares, int which);
using CostRule = Cost (*)(const Graph&, const Node&);

struct Row {
  Op op;
  const char* name;
  Form form;
  int min_inputs, max_inputs, outputs;
  LayoutRule layout;
  uint8_t activations;  // channels_last rows: bit i set where input i is an activation (the others stay row-major)
  uint8_t results;      // channels_last rows: bit i set where output i is an activation
  ShapeRule shape;
  BatchRule batch;
  Forward forward;              // null for elementwise rows, which have `instruction`
  InstructionRule instruction;  // null elsewhere
  JvpRule jvp;                  // null where the form gives it
  VjpRule vjp;                  // null for unary rows (the form gives it) and constant rows
  SquaresRule squares;
  SquaresThroughRule squares_through;
  CostRule cost;
  EpilogueForward forward_epilogue = nullptr;
};

const Row& row_of(Op op);
Op op_named(const std::string& name);  // throws ERR_UNSUPPORTED_OPERATOR

// The JVP of output 0 by the row's form or its own rule; none where every tangent is absent or the derivative is zero.
ValueId jvp_of(Graph& graph, const Node& node, std::span<const ValueId> x_dot);
// The cotangents of the wanted inputs.
void vjp_of(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted, std::span<ValueId> x_bar);
// True for rows whose forward is one instruction of an elementwise program.
bool is_elementwise(Op op);

}  // namespace palimpsest
