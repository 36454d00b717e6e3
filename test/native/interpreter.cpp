// An interpreter of graphs in plain float64 loops over logical indices.
#include "interpreter.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>

#include "interpreter_unary.h"
#include "interpreter_window.h"

namespace palimpsest::check {

namespace {

struct Array {
  Dims dims;
  Values v;
};

// Calls body(index) for every index of dims, in row-major order.
void for_each(const Dims& dims, const std::function<void(const Dims&)>& body) {
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) return;
  Dims at(dims.size(), 0);
  for (;;) {
    body(at);
    size_t axis = dims.size();
    while (axis > 0 && ++at[axis - 1] == dims[axis - 1]) at[--axis] = 0;
    if (axis == 0) return;
  }
}

// Position of an index of a shape that `dims` broadcasts to.
size_t position(const Dims& dims, const Dims& at) {
  int64_t p = 0;
  const size_t lead = at.size() - dims.size();
  for (size_t i = 0; i < dims.size(); ++i) p = p * dims[i] + (dims[i] == 1 ? 0 : at[i + lead]);
  return static_cast<size_t>(p);
}

double read(const Array& x, const Dims& at) { return x.v.at(position(x.dims, at)); }

double arithmetic(Op op, double a, double b, double c) {
  switch (op) {
    case Op::Add: return a + b;
    case Op::Sub: return a - b;
    case Op::Mul: return a * b;
    case Op::Div: return a / b;
    case Op::Where: return a != 0 ? b : c;
    case Op::Greater: return a > b;
    case Op::GreaterOrEqual: return a >= b;
    case Op::Equal: return a == b;
    default: throw std::logic_error("not arithmetic");
  }
}

Values matmul(const Attributes& at, const Array& a, const Array& b, const Dims& y) {
  Values out;
  for_each(y, [&](const Dims& i) {
    const int64_t m = i[i.size() - 2], n = i[i.size() - 1];
    const int64_t k_end = a.dims[a.dims.size() - (at.trans_a ? 2 : 1)];
    Dims ia = i, ib = i;
    double sum = 0;
    for (int64_t k = 0; k < k_end; ++k) {
      ia[i.size() - 2] = at.trans_a ? k : m, ia[i.size() - 1] = at.trans_a ? m : k;
      ib[i.size() - 2] = at.trans_b ? n : k, ib[i.size() - 1] = at.trans_b ? k : n;
      sum += read(a, ia) * read(b, ib);
    }
    out.push_back(at.alpha * sum);
  });
  return out;
}

// s [I, O] = sum_n (sum_t x[n, t, i] g[n, t, o])^2
Values linear_squares(const Array& x, const Array& g) {
  const int64_t n_end = x.dims[0], t_end = x.dims[1];
  Values out;
  for_each({x.dims[2], g.dims[2]}, [&](const Dims& at) {
    double sum = 0;
    for (int64_t n = 0; n < n_end; ++n) {
      double example = 0;
      for (int64_t t = 0; t < t_end; ++t) example += read(x, {n, t, at[0]}) * read(g, {n, t, at[1]});
      sum += example * example;
    }
    out.push_back(sum);
  });
  return out;
}

// Along `axis`: p = e^x / sum e^x, or its logarithm.
Values softmax(const Array& x, int64_t axis, bool logarithm) {
  Values out;
  for_each(x.dims, [&](const Dims& at) {
    double sum = 0;
    Dims i = at;
    for (int64_t k = 0; k < x.dims[static_cast<size_t>(axis)]; ++k) {
      i[static_cast<size_t>(axis)] = k;
      sum += std::exp(read(x, i) - read(x, at));
    }
    out.push_back(logarithm ? -std::log(sum) : 1 / sum);
  });
  return out;
}

// (max, first position of it) along the axis
std::pair<Values, Values> maximum(const Array& x, int64_t axis, const Dims& y) {
  std::pair<Values, Values> out;
  for_each(y, [&](const Dims& at) {
    Dims i = at;
    double best = -std::numeric_limits<double>::infinity();
    int64_t where = 0;
    for (int64_t k = 0; k < x.dims[static_cast<size_t>(axis)]; ++k) {
      i[static_cast<size_t>(axis)] = k;
      if (read(x, i) > best) best = read(x, i), where = k;
    }
    out.first.push_back(best);
    out.second.push_back(static_cast<double>(where));
  });
  return out;
}

// y, mean [C] and rstd [C] of x over all axes but 1
std::vector<Values> batch_norm(const Array& x, double epsilon) {
  const auto channels = static_cast<size_t>(x.dims[1]);
  const double rows = static_cast<double>(x.v.size()) / static_cast<double>(channels);
  Values mean(channels), variance(channels), rstd, y;
  for_each(x.dims, [&](const Dims& at) { mean[static_cast<size_t>(at[1])] += read(x, at) / rows; });
  for_each(x.dims, [&](const Dims& at) {
    const auto c = static_cast<size_t>(at[1]);
    variance[c] += (read(x, at) - mean[c]) * (read(x, at) - mean[c]) / rows;
  });
  for (double v : variance) rstd.push_back(1 / std::sqrt(v + epsilon));
  for_each(x.dims, [&](const Dims& at) {
    const auto c = static_cast<size_t>(at[1]);
    y.push_back((read(x, at) - mean[c]) * rstd[c]);
  });
  return {y, mean, rstd};
}

// The mean positive response of channel c over the rows of class k, summed: all of it in the first part.
Values channel_statistics(const Array& x, const Array& labels, const Dims& y) {
  Array out{y, Values(static_cast<size_t>(element_count(y)), 0.0)};
  const double positions = static_cast<double>(x.dims[2] * x.dims[3]);
  for_each(x.dims, [&](const Dims& at) {
    for (int64_t k = 0; k < y[1]; ++k) {
      if (read(labels, {at[0], k}) == 0) continue;
      out.v.at(position(y, {0, k, at[1]})) += std::max(read(x, at), 0.0) / positions;
    }
  });
  return out.v;
}

// Where the element of the smaller side of a moving row lies in the larger one.
Dims place(const Node& node, const Dims& at, const std::vector<Array>& in) {
  Dims to = at;
  const Attributes& a = node.attributes;
  const auto axis = static_cast<size_t>(a.axis);
  switch (node.op) {
    case Op::Slice:
    case Op::Unslice:
      for (size_t i = 0; i < to.size(); ++i) to[i] = a.starts[i] + a.steps[i] * at[i];
      break;
    case Op::Gather:
    case Op::ScatterAdd: to[axis] = a.indices[static_cast<size_t>(at[axis])]; break;
    default: to[axis] = static_cast<int64_t>(read(in[1], at));
  }
  return to;
}

Values concat(const Node& node, const std::vector<Array>& in, const Dims& y) {
  Values out;
  const auto axis = static_cast<size_t>(node.attributes.axis);
  for_each(y, [&](const Dims& at) {
    Dims i = at;
    size_t part = 0;
    while (i[axis] >= in[part].dims[axis]) i[axis] -= in[part++].dims[axis];
    out.push_back(read(in[part], i));
  });
  return out;
}

Values transpose(const Array& x, const Dims& perm, const Dims& y) {
  Values out;
  for_each(y, [&](const Dims& at) {
    Dims i(at.size());
    for (size_t k = 0; k < at.size(); ++k) i[static_cast<size_t>(perm[k])] = at[k];
    out.push_back(read(x, i));
  });
  return out;
}

std::vector<Values> compute(const Graph& graph, const Node& node, const std::vector<Array>& in) {
  const Attributes& a = node.attributes;
  const Dims& y = graph.dims(node.outputs[0]);
  Array out{y, Values(static_cast<size_t>(element_count(y)), 0.0)};
  if (is_unary_row(node.op)) {
    for (size_t i = 0; i < out.v.size(); ++i) {
      const double d = unary_derivative(node.op, a.alpha, a.beta, in[0].v[i], static_cast<int>(a.order));
      out.v[i] = a.order > 0 ? d * in[1].v[i] : d;
    }
    return {out.v};
  }
  const auto pick = [&] {  // y[i] = x[place(i)]
    size_t next = 0;
    for_each(y, [&](const Dims& at) { out.v[next++] = read(in[0], place(node, at, in)); });
    return std::vector<Values>{out.v};
  };
  const auto put = [&] {  // y[place(i)] += x[i]
    for_each(in[0].dims, [&](const Dims& at) { out.v.at(position(y, place(node, at, in))) += read(in[0], at); });
    return std::vector<Values>{out.v};
  };
  switch (node.op) {
    case Op::MatMul: return {matmul(a, in[0], in[1], y)};
    case Op::LinearGradientSquares: return {linear_squares(in[0], in[1])};
    case Op::Reshape: return {in[0].v};
    case Op::Transpose: return {transpose(in[0], a.perm, y)};
    case Op::Concat: return {concat(node, in, y)};
    case Op::Slice:
    case Op::Gather:
    case Op::TakeAlongAxis: return pick();
    case Op::Unslice:
    case Op::ScatterAdd:
    case Op::PutAlongAxis: return put();
    case Op::Softmax: return {softmax(in[0], a.axis, false)};
    case Op::LogSoftmax: return {softmax(in[0], a.axis, true)};
    case Op::BatchNormalizationTraining: return batch_norm(in[0], a.epsilon);
    case Op::ChannelStatistics: return {channel_statistics(in[0], in[1], y)};
    case Op::ConstantOfShape: return {Values(out.v.size(), a.alpha)};
    case Op::ReduceSum:
      for_each(in[0].dims, [&](const Dims& at) { out.v.at(position(y, at)) += a.alpha * read(in[0], at); });
      return {out.v};
    case Op::ReduceMax: {
      auto [best, where] = maximum(in[0], a.axis, y);
      return {best, where};
    }
    default: break;
  }
  if (is_window_row(node.op)) {
    std::vector<Values> operands;
    std::vector<Dims> dims;
    for (const Array& x : in) operands.push_back(x.v), dims.push_back(x.dims);
    return window_row(node, operands, dims, y);
  }
  size_t next = 0;  // Expand and arithmetic
  for_each(y, [&](const Dims& at) {
    const double x = read(in[0], at);
    out.v[next++] =
        node.op == Op::Expand ? x : arithmetic(node.op, x, read(in.at(1), at), in.size() > 2 ? read(in[2], at) : 0);
  });
  return {out.v};
}

Values leaf(const Value& value, const Point& point) {
  const auto i = static_cast<size_t>(value.index);
  const auto of = [&](const std::vector<Values>& list) { return i < list.size() ? list[i] : Values(); };
  switch (value.source) {
    case Source::input: return point.inputs[i];
    case Source::parameter: return of(point.parameters);
    case Source::tangent: return of(point.tangents);
    default: return of(point.constants);
  }
}

}  // namespace

std::vector<Values> interpret(const Graph& graph, const Point& point) {
  std::vector<Values> values(static_cast<size_t>(graph.value_count()));
  for (ValueId id = 0; id < graph.value_count(); ++id) {
    if (graph.value(id).source != Source::computed) values[static_cast<size_t>(id)] = leaf(graph.value(id), point);
  }
  for (int32_t n = 0; n < graph.node_count(); ++n) {
    const Node& node = graph.node(n);
    std::vector<Array> in;
    bool known = true;
    for (ValueId id : node.inputs) {
      in.push_back({graph.dims(id), values[static_cast<size_t>(id)]});
      known = known && static_cast<int64_t>(in.back().v.size()) == element_count(in.back().dims);
    }
    if (!known) continue;
    const std::vector<Values> made = compute(graph, node, in);
    for (size_t i = 0; i < made.size(); ++i) values[static_cast<size_t>(node.outputs[i])] = made[i];
  }
  return values;
}

}  // namespace palimpsest::check
