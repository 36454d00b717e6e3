// Unary rows: y = f(x); with attribute order k >= 1 and input m: y = f^(k)(x) m.
#include "core/error.h"
#include "ops/rules.h"

namespace palimpsest::unary {

Unary function_of(Op op) {
  switch (op) {
    case Op::Relu: return Unary::relu;
    case Op::LeakyRelu: return Unary::leaky_relu;
    case Op::Elu: return Unary::elu;
    case Op::Sigmoid: return Unary::sigmoid;
    case Op::HardSigmoid: return Unary::hard_sigmoid;
    case Op::Tanh: return Unary::tanh;
    case Op::Gelu: return Unary::gelu;
    case Op::GeluTanh: return Unary::gelu_tanh;
    case Op::Silu: return Unary::silu;
    case Op::HardSwish: return Unary::hard_swish;
    case Op::Mish: return Unary::mish;
    case Op::Softplus: return Unary::softplus;
    case Op::Softsign: return Unary::softsign;
    case Op::Clip: return Unary::clip;
    case Op::Abs: return Unary::abs;
    case Op::Sqrt: return Unary::sqrt;
    case Op::Pow: return Unary::pow;
    case Op::Exp: return Unary::exp;
    case Op::Log: return Unary::log;
    case Op::Erf: return Unary::erf;
    case Op::Reciprocal: return Unary::reciprocal;
    case Op::Affine: return Unary::affine;
    default: throw Error(ErrorCode::internal, "expected a unary row");
  }
}

bool is_piecewise_linear(Op op) {
  switch (op) {
    case Op::Relu:
    case Op::LeakyRelu:
    case Op::HardSigmoid:
    case Op::Clip:
    case Op::Abs:
    case Op::Affine: return true;
    default: return false;
  }
}

ValueId derivative_argument(const Node& node) {
  const bool gate = node.op == Op::Relu || (node.op == Op::LeakyRelu && node.attributes.alpha >= 0);
  return gate && node.attributes.order == 0 ? node.outputs[0] : node.inputs[0];
}

Instruction instruction(const Node& node) {
  Instruction step;
  step.code = Code::unary;
  step.unary = function_of(node.op);
  step.order = static_cast<uint8_t>(node.attributes.order);
  step.a = 0;
  step.b = node.attributes.order > 0 ? 1 : -1;
  step.alpha = node.attributes.alpha;
  step.beta = node.attributes.beta;
  return step;
}

void shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const int64_t order = node.attributes.order;
  if (order < 0 || order > 2) {
    throw Error(ErrorCode::unsupported,
                "derivatives of a unary row go to order 2, order " + std::to_string(order) + " was asked for");
  }
  if ((order > 0) != (node.inputs.size() == 2)) {
    throw Error(ErrorCode::shape, "expected a second input exactly where order is 1 or more");
  }
  const Dims& x = graph.dims(node.inputs[0]);
  if (order > 0 && graph.dims(node.inputs[1]) != x)
    throw Error(ErrorCode::shape, "expected a factor of the same shape");
  outputs[0].dims = x;
}

// y = alpha x + beta: y_dot = alpha x_dot.
ValueId affine_jvp(Graph& graph, const Node& node, std::span<const ValueId> x_dot) {
  return graph.scale(x_dot[0], node.attributes.alpha);
}

void affine_vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool>, std::span<ValueId> x_bar) {
  x_bar[0] = graph.scale(y_bar, node.attributes.alpha);
}

ValueId affine_squares_through(Graph& graph, const Node& node, ValueId squares, int) {
  return graph.scale(squares, node.attributes.alpha * node.attributes.alpha);
}

}  // namespace palimpsest::unary
