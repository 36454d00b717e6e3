// THE OPERATOR TABLE. A row that lacks a rule its form demands does not compile.
#include "ops/table.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "ops/rules.h"

namespace palimpsest {

namespace {

constexpr auto elementwise = Form::elementwise;
constexpr auto linear = Form::linear;
constexpr auto bilinear = Form::bilinear;
constexpr auto custom = Form::custom;
constexpr auto constant = Form::constant;
constexpr auto strided = LayoutRule::strided;
constexpr auto row_major = LayoutRule::row_major;
constexpr auto channels_last = LayoutRule::channels_last;
constexpr auto alias = LayoutRule::alias;

// clang-format off
// A unary row: everything follows from the function.
#define UNARY(name)                                                                                              \
  Row{Op::name, #name, elementwise, 1, 2, 1, strided, 0, 0, unary::shape, same_batch, nullptr, unary::instruction, \
      nullptr, nullptr, nullptr, nullptr, elementwise_cost}

// op, name, form, inputs min max, outputs, layout, activations, results,
//   shape, batch, forward, instruction, jvp, vjp, squares, squares_through, cost
constexpr Row rows[] = {
    UNARY(Relu), UNARY(LeakyRelu), UNARY(Elu), UNARY(Sigmoid), UNARY(HardSigmoid), UNARY(Tanh), UNARY(Gelu),
    UNARY(GeluTanh), UNARY(Silu), UNARY(HardSwish), UNARY(Mish), UNARY(Softplus), UNARY(Softsign), UNARY(Clip),
    UNARY(Abs), UNARY(Sqrt), UNARY(Pow), UNARY(Exp), UNARY(Log), UNARY(Erf), UNARY(Reciprocal),
    Row{Op::Affine, "Affine", custom, 1, 1, 1, strided, 0, 0,
        unary::shape, same_batch, nullptr, unary::instruction, unary::affine_jvp, unary::affine_vjp, nullptr,
        unary::affine_squares_through, elementwise_cost},
    Row{Op::Add, "Add", custom, 2, 2, 1, strided, 0, 0,
        arithmetic::shape, broadcast_batch, nullptr, arithmetic::instruction, arithmetic::add_jvp, arithmetic::add_vjp,
        arithmetic::squares, nullptr, elementwise_cost},
    Row{Op::Sub, "Sub", custom, 2, 2, 1, strided, 0, 0,
        arithmetic::shape, broadcast_batch, nullptr, arithmetic::instruction, arithmetic::add_jvp, arithmetic::add_vjp,
        arithmetic::squares, nullptr, elementwise_cost},
    Row{Op::Mul, "Mul", bilinear, 2, 2, 1, strided, 0, 0,
        arithmetic::shape, broadcast_batch, nullptr, arithmetic::instruction, nullptr, arithmetic::mul_vjp,
        arithmetic::squares, arithmetic::mul_squares_through, elementwise_cost},
    Row{Op::Div, "Div", custom, 2, 2, 1, strided, 0, 0,
        arithmetic::shape, broadcast_batch, nullptr, arithmetic::instruction, arithmetic::div_jvp, arithmetic::div_vjp,
        arithmetic::squares, arithmetic::div_squares_through, elementwise_cost},
    Row{Op::Where, "Where", custom, 3, 3, 1, strided, 0, 0,
        arithmetic::shape, broadcast_batch, nullptr, arithmetic::instruction, arithmetic::where_jvp,
        arithmetic::where_vjp, nullptr, nullptr, elementwise_cost},
    Row{Op::Greater, "Greater", constant, 2, 2, 1, strided, 0, 0,
        arithmetic::shape, broadcast_batch, nullptr, arithmetic::instruction, nullptr, nullptr, nullptr, nullptr,
        elementwise_cost},
    Row{Op::GreaterOrEqual, "GreaterOrEqual", constant, 2, 2, 1, strided, 0, 0,
        arithmetic::shape, broadcast_batch, nullptr, arithmetic::instruction, nullptr, nullptr, nullptr, nullptr,
        elementwise_cost},
    Row{Op::Equal, "Equal", constant, 2, 2, 1, strided, 0, 0,
        arithmetic::shape, broadcast_batch, nullptr, arithmetic::instruction, nullptr, nullptr, nullptr, nullptr,
        elementwise_cost},
    Row{Op::MatMul, "MatMul", bilinear, 2, 2, 1, row_major, 0, 0,
        matmul::shape, matmul::batch, matmul::forward, nullptr, nullptr, matmul::vjp, matmul::squares, nullptr,
        matmul::cost, matmul::forward_epilogue},
    Row{Op::Conv, "Conv", bilinear, 2, 2, 1, channels_last, 0b01, 0b1,
        conv::shape, conv::batch, conv::forward, nullptr, nullptr, conv::vjp, conv::squares, nullptr, conv::cost,
        conv::forward_epilogue},
    Row{Op::ConvInputGradient, "ConvInputGradient", bilinear, 2, 2, 1, channels_last, 0b01, 0b1,
        conv::input_gradient_shape, conv::batch, conv::input_gradient_forward, nullptr, nullptr,
        conv::input_gradient_vjp, nullptr, nullptr, conv::cost},
    Row{Op::ConvWeightGradient, "ConvWeightGradient", bilinear, 2, 2, 1, channels_last, 0b11, 0b0,
        conv::weight_gradient_shape, matmul::mixed_batch, conv::weight_gradient_forward, nullptr, nullptr,
        conv::weight_gradient_vjp, nullptr, nullptr, conv::cost},
    Row{Op::LinearGradientSquares, "LinearGradientSquares", constant, 2, 2, 1, row_major, 0, 0,
        matmul::squares_shape, matmul::mixed_batch, matmul::squares_forward, nullptr, nullptr, nullptr, nullptr,
        nullptr, matmul::squares_cost},
    Row{Op::ConvGradientSquares, "ConvGradientSquares", constant, 2, 2, 1, channels_last, 0b11, 0b0,
        conv::weight_gradient_shape, matmul::mixed_batch, conv::squares_forward, nullptr, nullptr, nullptr, nullptr,
        nullptr, conv::squares_cost},
    Row{Op::Reshape, "Reshape", linear, 1, 1, 1, alias, 0, 0,
        structure::reshape_shape, structure::reshape_batch, structure::reshape_forward, nullptr, nullptr,
        structure::reshape_vjp, nullptr, structure::reshape_squares_through, no_cost},
    Row{Op::Transpose, "Transpose", linear, 1, 1, 1, row_major, 0, 0,
        structure::transpose_shape, structure::transpose_batch, structure::transpose_forward, nullptr, nullptr,
        structure::transpose_vjp, nullptr, structure::transpose_squares_through, traffic_cost},
    Row{Op::Expand, "Expand", linear, 1, 1, 1, strided, 0, 0,
        structure::expand_shape, structure::expand_batch, structure::expand_forward, nullptr, nullptr,
        structure::expand_vjp, nullptr, nullptr, traffic_cost},
    Row{Op::Concat, "Concat", custom, 1, -1, 1, strided, 0, 0,
        structure::concat_shape, structure::concat_batch, structure::concat_forward, nullptr, structure::concat_jvp,
        structure::concat_vjp, nullptr, nullptr, traffic_cost},
    Row{Op::Slice, "Slice", linear, 1, 1, 1, strided, 0, 0,
        structure::slice_shape, structure::slice_batch, structure::slice_forward, nullptr, nullptr,
        structure::slice_vjp, nullptr, structure::slice_squares_through, selection_cost},
    Row{Op::Unslice, "Unslice", linear, 1, 1, 1, strided, 0, 0,
        structure::unslice_shape, structure::slice_batch, structure::unslice_forward, nullptr, nullptr,
        structure::unslice_vjp, nullptr, nullptr, traffic_cost},
    Row{Op::Gather, "Gather", linear, 1, 1, 1, strided, 0, 0,
        indexing::gather_shape, batch_off_axis, indexing::gather_forward, nullptr, nullptr, indexing::gather_vjp,
        nullptr, nullptr, selection_cost},
    Row{Op::ScatterAdd, "ScatterAdd", linear, 1, 1, 1, strided, 0, 0,
        indexing::scatter_shape, batch_off_axis, indexing::scatter_forward, nullptr, nullptr, indexing::scatter_vjp,
        nullptr, nullptr, traffic_cost},
    Row{Op::ReduceSum, "ReduceSum", linear, 1, 1, 1, strided, 0, 0,
        reduction::sum_shape, batch_off_axis, reduction::sum_forward, nullptr, nullptr, reduction::sum_vjp, nullptr,
        nullptr, reduction_cost},
    Row{Op::ReduceMax, "ReduceMax", custom, 1, 1, 2, strided, 0, 0,
        reduction::max_shape, batch_off_axis, reduction::max_forward, nullptr, reduction::max_jvp, reduction::max_vjp,
        nullptr, nullptr, reduction_cost},
    Row{Op::TakeAlongAxis, "TakeAlongAxis", linear, 2, 2, 1, strided, 0, 0,
        indexing::take_shape, batch_off_axis, indexing::take_forward, nullptr, nullptr, indexing::take_vjp, nullptr,
        nullptr, selection_cost},
    Row{Op::PutAlongAxis, "PutAlongAxis", linear, 2, 2, 1, strided, 0, 0,
        indexing::put_shape, batch_off_axis, indexing::put_forward, nullptr, nullptr, indexing::put_vjp, nullptr,
        nullptr, traffic_cost},
    Row{Op::Softmax, "Softmax", custom, 1, 1, 1, strided, 0, 0,
        softmax::shape, batch_off_axis, softmax::forward, nullptr, softmax::jvp, softmax::vjp, nullptr, nullptr,
        softmax::cost},
    Row{Op::LogSoftmax, "LogSoftmax", custom, 1, 1, 1, strided, 0, 0,
        softmax::shape, batch_off_axis, softmax::log_forward, nullptr, softmax::log_jvp, softmax::log_vjp, nullptr,
        nullptr, softmax::cost},
    Row{Op::MaxPool, "MaxPool", custom, 1, 1, 2, channels_last, 0b1, 0b11,
        pool::shape, pool::batch, pool::max_forward, nullptr, pool::max_jvp, pool::max_vjp, nullptr, nullptr, pool::cost},
    Row{Op::PoolGather, "PoolGather", linear, 2, 2, 1, channels_last, 0b11, 0b1,
        pool::gather_shape, pool::batch, pool::gather_forward, nullptr, nullptr, pool::gather_vjp, nullptr, nullptr,
        selection_cost},
    Row{Op::PoolScatter, "PoolScatter", linear, 2, 2, 1, channels_last, 0b11, 0b1,
        pool::adjoint_shape, pool::batch, pool::scatter_forward, nullptr, nullptr, pool::scatter_vjp, nullptr, nullptr,
        traffic_cost},
    Row{Op::AveragePool, "AveragePool", linear, 1, 1, 1, channels_last, 0b1, 0b1,
        pool::shape, pool::batch, pool::average_forward, nullptr, nullptr, pool::average_vjp, nullptr, nullptr,
        pool::cost},
    Row{Op::AveragePoolGradient, "AveragePoolGradient", linear, 1, 1, 1, channels_last, 0b1, 0b1,
        pool::adjoint_shape, pool::batch, pool::average_gradient_forward, nullptr, nullptr, pool::average_gradient_vjp,
        nullptr, nullptr, pool::cost},
    Row{Op::BatchNormalizationTraining, "BatchNormalizationTraining", custom, 1, 1, 3, channels_last, 0b1, 0b1,
        normalization::shape, normalization::batch, normalization::forward, nullptr, normalization::jvp,
        normalization::vjp, nullptr, nullptr, normalization::cost},
    Row{Op::ChannelStatistics, "ChannelStatistics", constant, 2, 2, 1, channels_last, 0b01, 0,
        channel_statistics::shape, channel_statistics::batch, channel_statistics::forward, nullptr, nullptr, nullptr,
        nullptr, nullptr, channel_statistics::cost},
    Row{Op::ConstantOfShape, "ConstantOfShape", constant, 0, 0, 1, strided, 0, 0,
        structure::constant_shape, structure::constant_batch, structure::constant_forward, nullptr, nullptr, nullptr,
        nullptr, nullptr, traffic_cost},
};

#undef UNARY
// clang-format on

constexpr bool complete(const Row& row, size_t position) {
  const bool in_order = static_cast<size_t>(row.op) == position;
  const bool runs = (row.forward != nullptr) != (row.instruction != nullptr);
  const bool derived_jvp = row.form != custom || row.jvp != nullptr;
  const bool derived_vjp = row.form == elementwise || row.form == constant || row.vjp != nullptr;
  return in_order && runs && derived_jvp && derived_vjp && row.shape && row.batch && row.cost && row.outputs > 0;
}

constexpr bool complete_table() {
  for (size_t i = 0; i < std::size(rows); ++i) {
    if (!complete(rows[i], i)) return false;
  }
  return std::size(rows) == static_cast<size_t>(Op::count_);
}
static_assert(complete_table(), "a row of the operator table is missing, out of order or lacks a rule");

}  // namespace

const Row& row_of(Op op) { return rows[static_cast<size_t>(op)]; }

Op op_named(const std::string& name) {
  for (const Row& row : rows) {
    if (name == row.name) return row.op;
  }
  throw Error(ErrorCode::unsupported_operator, "expected a row of the operator table, got '" + name + "'");
}

bool is_elementwise(Op op) { return row_of(op).instruction != nullptr; }

namespace {

// d f^(k)(x) m = f^(k+1)(x) m x_dot + f^(k)(x) m_dot
ValueId elementwise_jvp(Graph& graph, const Node& node, std::span<const ValueId> x_dot) {
  const ValueId x = unary::derivative_argument(node);
  ValueId y_dot = none;
  const bool flat = node.attributes.order > 0 && unary::is_piecewise_linear(node.op);
  if (x_dot[0] != none && !flat) {
    Attributes attributes = node.attributes;
    attributes.order += 1;
    const ValueId factor = node.attributes.order > 0 ? graph.mul(node.inputs[1], x_dot[0]) : x_dot[0];
    y_dot = graph.append(node.op, {x, factor}, attributes);
  }
  if (node.attributes.order > 0 && x_dot[1] != none) {
    y_dot = graph.add(y_dot, graph.append(node.op, {x, x_dot[1]}, node.attributes));
  }
  return y_dot;
}

void elementwise_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted,
                     std::span<ValueId> x_bar) {
  const ValueId x = unary::derivative_argument(node);
  const bool flat = node.attributes.order > 0 && unary::is_piecewise_linear(node.op);
  if (wanted[0] && !flat) {
    Attributes attributes = node.attributes;
    attributes.order += 1;
    const ValueId factor = node.attributes.order > 0 ? graph.mul(node.inputs[1], y_bar) : y_bar;
    x_bar[0] = graph.append(node.op, {x, factor}, attributes);
  }
  if (node.attributes.order > 0 && wanted[1]) x_bar[1] = graph.append(node.op, {x, y_bar}, node.attributes);
}

ValueId apply_to(Graph& graph, const Node& node, size_t which, ValueId tangent) {
  if (tangent == none) return none;
  std::vector<ValueId> inputs = node.inputs;
  inputs[which] = tangent;
  return graph.append(node.op, std::move(inputs), node.attributes);
}

}  // namespace

ValueId jvp_of(Graph& graph, const Node& node, std::span<const ValueId> x_dot) {
  if (std::all_of(x_dot.begin(), x_dot.end(), [](ValueId id) { return id == none; })) return none;
  const Row& row = row_of(node.op);
  switch (row.form) {
    case Form::constant:
      if (node.op == Op::LinearGradientSquares || node.op == Op::ConvGradientSquares ||
          node.op == Op::ChannelStatistics) {
        throw Error(ErrorCode::unsupported, std::string(row.name) + " has no derivative");
      }
      return none;
    case Form::linear: return apply_to(graph, node, 0, x_dot[0]);
    case Form::bilinear: return graph.add(apply_to(graph, node, 0, x_dot[0]), apply_to(graph, node, 1, x_dot[1]));
    case Form::elementwise: return elementwise_jvp(graph, node, x_dot);
    case Form::custom: return row.jvp(graph, node, x_dot);
  }
  return none;
}

void vjp_of(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted, std::span<ValueId> x_bar) {
  std::fill(x_bar.begin(), x_bar.end(), none);
  const Row& row = row_of(node.op);
  if (row.form == Form::constant) return;
  if (row.vjp != nullptr) {
    row.vjp(graph, node, y_bar, wanted, x_bar);
  } else {
    elementwise_vjp(graph, node, y_bar, wanted, x_bar);
  }
}

}  // namespace palimpsest
