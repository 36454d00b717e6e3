// MatMul: y = alpha op(a) op(b) over broadcast leading axes, and the per-example squares of its weight.
#include <array>

#include "core/error.h"
#include "ops/rules.h"

namespace palimpsest::matmul {

namespace {

struct Sizes {
  Dims lead;
  int64_t m, k, n;
};

Sizes sizes_of(const Dims& a, const Dims& b, bool trans_a, bool trans_b) {
  if (a.size() < 2 || b.size() < 2) throw Error(ErrorCode::shape, "expected matrices of rank 2 or more");
  const int64_t a0 = a[a.size() - 2], a1 = a[a.size() - 1], b0 = b[b.size() - 2], b1 = b[b.size() - 1];
  const int64_t k = trans_a ? a0 : a1;
  if (k != (trans_b ? b1 : b0)) throw Error(ErrorCode::shape, "expected inner dimensions that agree");
  return {broadcast_dims(Dims(a.begin(), a.end() - 2), Dims(b.begin(), b.end() - 2)), trans_a ? a1 : a0, k,
          trans_b ? b0 : b1};
}

}  // namespace

void shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Attributes& at = node.attributes;
  Sizes s = sizes_of(graph.dims(node.inputs[0]), graph.dims(node.inputs[1]), at.trans_a, at.trans_b);
  outputs[0].dims = s.lead;
  outputs[0].dims.push_back(s.m);
  outputs[0].dims.push_back(s.n);
}

BatchAxis batch(const Graph& graph, const Node& node) {
  const int32_t rank = static_cast<int32_t>(graph.dims(node.outputs[0]).size());
  BatchAxis found;
  for (size_t i = 0; i < 2; ++i) {
    BatchAxis batch = graph.value(node.inputs[i]).batch;
    if (batch.axis == BatchAxis::absent) continue;
    if (batch.axis == BatchAxis::mixed) return batch;
    const int32_t own = static_cast<int32_t>(graph.dims(node.inputs[i]).size());
    const bool trans = i == 0 ? node.attributes.trans_a : node.attributes.trans_b;
    const int32_t inner = (i == 0) == trans ? own - 2 : own - 1;  // the axis that is summed
    const int32_t outer = (i == 0) == trans ? own - 1 : own - 2;
    if (batch.axis == inner) return {BatchAxis::mixed, 1, 1};
    batch.axis = batch.axis == outer ? (i == 0 ? rank - 2 : rank - 1) : batch.axis + rank - own;
    if (found.axis != BatchAxis::absent && found != batch) return {BatchAxis::mixed, 1, 1};
    found = batch;
  }
  return found;
}

namespace {

// What a node multiplies: `one` where one weight serves all rows, which then are the rows of one product.
struct Products {
  Sizes sizes;
  int64_t count, count_a, count_b;
  GemmShape shape;
  bool one;
};

Products products_of(const Attributes& at, const Dims& a, const Dims& b) {
  Products p;
  p.sizes = sizes_of(a, b, at.trans_a, at.trans_b);
  const auto [m, k, n] = std::array{p.sizes.m, p.sizes.k, p.sizes.n};
  p.count = element_count(p.sizes.lead);
  p.count_a = element_count(a) / (m * k > 0 ? m * k : 1);
  p.count_b = element_count(b) / (n * k > 0 ? n * k : 1);
  p.one = p.count_b == 1 && p.count_a == p.count && !at.trans_a;
  p.shape.m = p.one ? m * p.count : m, p.shape.n = n, p.shape.k = k;
  p.shape.trans_a = at.trans_a, p.shape.trans_b = at.trans_b, p.shape.alpha = at.alpha;
  p.shape.lda = a.back(), p.shape.ldb = b.back(), p.shape.ldc = n;
  return p;
}

}  // namespace

void forward(const Node& node, Backend& backend, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  const Tensor &a = inputs[0], &b = inputs[1], &y = outputs[0];
  Products products = products_of(node.attributes, a.dims, b.dims);
  const Sizes& s = products.sizes;
  const int64_t count = products.count, count_a = products.count_a, count_b = products.count_b;
  GemmShape& shape = products.shape;
  if (products.one) {
    backend.gemm(shape, a, b, y);
    return;
  }
  if ((count_a == 1 || count_a == count) && (count_b == 1 || count_b == count)) {
    shape.batch = count;
    shape.stride_a = count_a == 1 ? 0 : s.m * s.k;
    shape.stride_b = count_b == 1 ? 0 : s.k * s.n;
    shape.stride_c = s.m * s.n;
    backend.gemm(shape, a, b, y);
    return;
  }
  // Leading axes that broadcast in part: one product each.
  const Dims strides_a = broadcast_strides(Dims(a.dims.begin(), a.dims.end() - 2),
                                           dense_strides(Dims(a.dims.begin(), a.dims.end() - 2)), s.lead);
  const Dims strides_b = broadcast_strides(Dims(b.dims.begin(), b.dims.end() - 2),
                                           dense_strides(Dims(b.dims.begin(), b.dims.end() - 2)), s.lead);
  const size_t size = size_of(y.dtype);
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i, at_a = 0, at_b = 0;
    for (size_t axis = s.lead.size(); axis-- > 0;) {
      at_a += rest % s.lead[axis] * strides_a[axis];
      at_b += rest % s.lead[axis] * strides_b[axis];
      rest /= s.lead[axis];
    }
    Tensor ai = a, bi = b, yi = y;
    ai.data = static_cast<char*>(a.data) + static_cast<size_t>(at_a * s.m * s.k) * size;
    bi.data = static_cast<char*>(b.data) + static_cast<size_t>(at_b * s.k * s.n) * size;
    yi.data = static_cast<char*>(y.data) + static_cast<size_t>(i * s.m * s.n) * size;
    backend.gemm(shape, ai, bi, yi);
  }
}

void forward_epilogue(const Node& node, Backend& backend, std::span<const Tensor> inputs, const Tensor& y,
                      const Epilogue& epilogue) {
  const Products products = products_of(node.attributes, inputs[0].dims, inputs[1].dims);
  if (products.one) return backend.gemm_epilogue(products.shape, inputs[0], inputs[1], y, epilogue);
  forward(node, backend, inputs, {&y, 1});
  backend.elementwise(epilogue.program, epilogue.inputs, {&y, 1});
}

namespace {

ValueId product(Graph& graph, ValueId a, ValueId b, bool trans_a, bool trans_b, double alpha) {
  Attributes attributes;
  attributes.trans_a = trans_a, attributes.trans_b = trans_b, attributes.alpha = alpha;
  return graph.append(Op::MatMul, {a, b}, attributes);
}

// [.., M, N] as [rows, N]
ValueId as_rows(Graph& graph, ValueId x) {
  const Dims dims = graph.dims(x);
  return dims.size() == 2 ? x
                          : graph.reshape(x, {element_count(dims) / std::max<int64_t>(dims.back(), 1), dims.back()});
}

}  // namespace

void vjp(Graph& graph, const Node& node, ValueId y_bar, std::span<const bool> wanted, std::span<ValueId> x_bar) {
  ValueId a = node.inputs[0], b = node.inputs[1];
  const bool ta = node.attributes.trans_a, tb = node.attributes.trans_b;
  const double alpha = node.attributes.alpha;
  const Dims da = graph.dims(a), db = graph.dims(b);
  if (db.size() == 2 && da.size() > 2 && !ta) {  // rows of one matrix: no partial sums over the leading axes
    const ValueId rows = as_rows(graph, a), bars = as_rows(graph, y_bar);
    if (wanted[0]) x_bar[0] = graph.reshape(product(graph, bars, b, false, !tb, alpha), da);
    if (wanted[1])
      x_bar[1] = tb ? product(graph, bars, rows, true, false, alpha) : product(graph, rows, bars, true, false, alpha);
    return;
  }
  if (wanted[0]) {
    x_bar[0] =
        graph.sum_to(ta ? product(graph, b, y_bar, tb, true, alpha) : product(graph, y_bar, b, false, !tb, alpha), da);
  }
  if (wanted[1]) {
    x_bar[1] =
        graph.sum_to(tb ? product(graph, y_bar, a, true, ta, alpha) : product(graph, a, y_bar, !ta, false, alpha), db);
  }
}

namespace {

// x as [B, T, D] with the examples first; none where they cannot be brought there.
ValueId examples_first(Graph& graph, ValueId x) {
  const BatchAxis batch = graph.value(x).batch;
  const Dims dims = graph.dims(x);
  const int32_t rank = static_cast<int32_t>(dims.size());
  if (!batch.present() || batch.outer != 1 || batch.axis == rank - 1) return none;
  Dims perm = {batch.axis};
  if (batch.inner > 1 && batch.axis != 0) return none;
  for (int32_t i = 0; i < rank; ++i) {
    if (i != batch.axis) perm.push_back(i);
  }
  const int64_t n = dims[static_cast<size_t>(batch.axis)] / batch.inner;
  return graph.reshape(graph.transpose(x, perm), {n, element_count(dims) / (n * dims.back()), dims.back()});
}

}  // namespace

// y = a b, b (I, O) a parameter: s [I, O] = sum_b (sum_t a[b, t, i] y_bar[b, t, o])^2.
ValueId squares(Graph& graph, const Node& node, ValueId y_bar, int which) {
  if (which != 1 || node.attributes.trans_a || graph.dims(node.inputs[1]).size() != 2) return none;
  const ValueId a = node.inputs[0];
  if (graph.dims(a).size() != graph.dims(node.outputs[0]).size()) return none;
  if (graph.value(a).batch != graph.value(node.outputs[0]).batch) return none;
  const ValueId x = examples_first(graph, a);
  if (x == none) return none;
  const ValueId bars = examples_first(graph, y_bar);
  if (bars == none) return none;
  ValueId s = node.attributes.trans_b ? graph.append(Op::LinearGradientSquares, {bars, x})
                                      : graph.append(Op::LinearGradientSquares, {x, bars});
  return graph.scale(s, node.attributes.alpha * node.attributes.alpha);
}

// 2 M K N of each matrix
Cost cost(const Graph& graph, const Node& node) {
  Cost c = traffic_cost(graph, node);
  const Dims& a = graph.dims(node.inputs[0]);
  const int64_t k = node.attributes.trans_a ? a[a.size() - 2] : a[a.size() - 1];
  c.flops = 2.0 * static_cast<double>(element_count(graph.dims(node.outputs[0]))) * static_cast<double>(k);
  return c;
}

// x [N, T, I], y_bar [N, T, O] -> s [I, O]
void squares_shape(const Graph& graph, const Node& node, std::vector<Value>& outputs) {
  const Dims &x = graph.dims(node.inputs[0]), &y = graph.dims(node.inputs[1]);
  if (x.size() != 3 || y.size() != 3 || x[0] != y[0] || x[1] != y[1]) {
    throw Error(ErrorCode::shape, "expected x [N, T, I] and y_bar [N, T, O]");
  }
  outputs[0].dims = {x[2], y[2]};
}

BatchAxis mixed_batch(const Graph&, const Node&) { return {BatchAxis::mixed, 1, 1}; }

void squares_forward(const Node&, Backend& backend, std::span<const Tensor> in, std::span<const Tensor> out) {
  const Dims &x = in[0].dims, &y = in[1].dims;
  backend.linear_grad_squares(x[0], x[1], x[2], y[2], in[0], in[1], out[0]);
}

// T = 1, a product of squares: 2 N I O + N I + N O. Otherwise 2 N T I O, then a square and a sum each: 2 N I O.
Cost squares_cost(const Graph& graph, const Node& node) {
  Cost c = traffic_cost(graph, node);
  const Dims &x = graph.dims(node.inputs[0]), &y = graph.dims(node.inputs[1]);
  const double n = static_cast<double>(x[0]), t = static_cast<double>(x[1]);
  const double i = static_cast<double>(x[2]), o = static_cast<double>(y[2]);
  c.flops = 2 * n * t * i * o + (x[1] == 1 ? n * (i + o) : 2 * n * i * o);
  return c;
}

}  // namespace palimpsest::matmul
