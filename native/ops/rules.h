// The rules of every row, declared by family; each family's file holds their mathematics. Read by table.cpp alone.
#pragma once

#include "ops/table.h"

namespace palimpsest {

// Shared shape and batch rules.
void same_shape(const Graph&, const Node&, std::vector<Value>&);
BatchAxis same_batch(const Graph&, const Node&);
Cost elementwise_cost(const Graph&, const Node&);
Cost reduction_cost(const Graph&, const Node&);
Cost no_cost(const Graph&, const Node&);
Cost traffic_cost(const Graph&, const Node&);    // bytes of operands, no arithmetic
Cost selection_cost(const Graph&, const Node&);  // the same where a part of input 0 is read
// Broadcast operands: the batch axis in the coordinates of the result.
BatchAxis broadcast_batch(const Graph&, const Node&);
// The batch axis of input 0 unless the node works along it (attribute axis, axes): then mixed.
BatchAxis batch_off_axis(const Graph&, const Node&);

namespace unary {
Instruction instruction(const Node&);
void shape(const Graph&, const Node&, std::vector<Value>&);
bool is_piecewise_linear(Op);
// Where the derivative of order 0 is taken: at y itself for gates, which are open exactly where y > 0. The next row
// reads y anyway, so that x need not be kept.
ValueId derivative_argument(const Node& node);
Unary function_of(Op);
ValueId affine_jvp(Graph&, const Node&, std::span<const ValueId>);
void affine_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
ValueId affine_squares_through(Graph&, const Node&, ValueId, int);
}  // namespace unary

namespace arithmetic {
Instruction instruction(const Node&);
void shape(const Graph&, const Node&, std::vector<Value>&);
ValueId add_jvp(Graph&, const Node&, std::span<const ValueId>);
ValueId div_jvp(Graph&, const Node&, std::span<const ValueId>);
ValueId where_jvp(Graph&, const Node&, std::span<const ValueId>);
void add_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void mul_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void div_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void where_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
ValueId squares(Graph&, const Node&, ValueId, int);              // Add, Sub, Mul, Div: a broadcast parameter
ValueId mul_squares_through(Graph&, const Node&, ValueId, int);  // parameter times a constant of its own
ValueId div_squares_through(Graph&, const Node&, ValueId, int);
}  // namespace arithmetic

namespace matmul {
void shape(const Graph&, const Node&, std::vector<Value>&);
BatchAxis batch(const Graph&, const Node&);
void forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void forward_epilogue(const Node&, Backend&, std::span<const Tensor>, const Tensor&, const Epilogue&);
void vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
ValueId squares(Graph&, const Node&, ValueId, int);
Cost cost(const Graph&, const Node&);
void squares_shape(const Graph&, const Node&, std::vector<Value>&);  // LinearGradientSquares
BatchAxis mixed_batch(const Graph&, const Node&);
void squares_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
Cost squares_cost(const Graph&, const Node&);
}  // namespace matmul

namespace conv {
void shape(const Graph&, const Node&, std::vector<Value>&);
void input_gradient_shape(const Graph&, const Node&, std::vector<Value>&);
void weight_gradient_shape(const Graph&, const Node&, std::vector<Value>&);
BatchAxis batch(const Graph&, const Node&);
void forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void forward_epilogue(const Node&, Backend&, std::span<const Tensor>, const Tensor&, const Epilogue&);
void input_gradient_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void weight_gradient_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void squares_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void input_gradient_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void weight_gradient_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
ValueId squares(Graph&, const Node&, ValueId, int);
Cost cost(const Graph&, const Node&);
Cost squares_cost(const Graph&, const Node&);
}  // namespace conv

namespace structure {
void reshape_shape(const Graph&, const Node&, std::vector<Value>&);
BatchAxis reshape_batch(const Graph&, const Node&);
void reshape_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void reshape_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
ValueId reshape_squares_through(Graph&, const Node&, ValueId, int);
void transpose_shape(const Graph&, const Node&, std::vector<Value>&);
BatchAxis transpose_batch(const Graph&, const Node&);
void transpose_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void transpose_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
ValueId transpose_squares_through(Graph&, const Node&, ValueId, int);
void expand_shape(const Graph&, const Node&, std::vector<Value>&);
BatchAxis expand_batch(const Graph&, const Node&);
void expand_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void expand_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void concat_shape(const Graph&, const Node&, std::vector<Value>&);
BatchAxis concat_batch(const Graph&, const Node&);
void concat_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
ValueId concat_jvp(Graph&, const Node&, std::span<const ValueId>);
void concat_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void slice_shape(const Graph&, const Node&, std::vector<Value>&);
BatchAxis slice_batch(const Graph&, const Node&);
void slice_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void slice_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
ValueId slice_squares_through(Graph&, const Node&, ValueId, int);
void unslice_shape(const Graph&, const Node&, std::vector<Value>&);
void unslice_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void unslice_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void constant_shape(const Graph&, const Node&, std::vector<Value>&);
BatchAxis constant_batch(const Graph&, const Node&);
void constant_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
}  // namespace structure

namespace indexing {
void gather_shape(const Graph&, const Node&, std::vector<Value>&);
void gather_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void gather_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void scatter_shape(const Graph&, const Node&, std::vector<Value>&);
void scatter_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void scatter_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void take_shape(const Graph&, const Node&, std::vector<Value>&);
void take_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void take_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void put_shape(const Graph&, const Node&, std::vector<Value>&);
void put_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void put_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
}  // namespace indexing

namespace reduction {
void sum_shape(const Graph&, const Node&, std::vector<Value>&);
void sum_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void sum_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void max_shape(const Graph&, const Node&, std::vector<Value>&);
void max_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
ValueId max_jvp(Graph&, const Node&, std::span<const ValueId>);
void max_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
}  // namespace reduction

namespace softmax {
void shape(const Graph&, const Node&, std::vector<Value>&);
void forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void log_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
ValueId jvp(Graph&, const Node&, std::span<const ValueId>);
ValueId log_jvp(Graph&, const Node&, std::span<const ValueId>);
void vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void log_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
Cost cost(const Graph&, const Node&);
}  // namespace softmax

namespace pool {
void shape(const Graph&, const Node&, std::vector<Value>&);
void gather_shape(const Graph&, const Node&, std::vector<Value>&);
void adjoint_shape(const Graph&, const Node&, std::vector<Value>&);
void max_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void gather_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void scatter_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void average_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
void average_gradient_forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
ValueId max_jvp(Graph&, const Node&, std::span<const ValueId>);
void max_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void gather_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void scatter_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void average_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
void average_gradient_vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
BatchAxis batch(const Graph&, const Node&);
Cost cost(const Graph&, const Node&);
}  // namespace pool

namespace normalization {
void shape(const Graph&, const Node&, std::vector<Value>&);
BatchAxis batch(const Graph&, const Node&);
void forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
ValueId jvp(Graph&, const Node&, std::span<const ValueId>);
void vjp(Graph&, const Node&, ValueId, std::span<const bool>, std::span<ValueId>);
Cost cost(const Graph&, const Node&);
}  // namespace normalization

namespace channel_statistics {
void shape(const Graph&, const Node&, std::vector<Value>&);
BatchAxis batch(const Graph&, const Node&);
void forward(const Node&, Backend&, std::span<const Tensor>, std::span<const Tensor>);
Cost cost(const Graph&, const Node&);
}  // namespace channel_statistics

}  // namespace palimpsest
