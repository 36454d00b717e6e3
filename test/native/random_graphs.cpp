// Random small graphs.
#include "random_graphs.h"

#include <algorithm>

#include "core/error.h"
#include "samples.h"

namespace palimpsest::check {

namespace {

class Builder {
 public:
  Builder(uint64_t seed, bool windows, bool tangents) : state_(seed), windows_(windows), tangents_(tangents) {}

  RandomGraph build() {
    std::vector<Dims> dims = {{3, 4}, {4}, {3, 1}, {4, 4}, {2, 3, 4}};
    if (windows_) dims.insert(dims.end(), {{2, 3, 4, 5}, {3, 3, 3, 3}, {3, 1, 1}, {2, 3, 4, 5}});
    for (size_t i = 0; i < dims.size(); ++i) {
      made_.parameters.push_back(graph().add_parameter(static_cast<int32_t>(i), dims[i]));
      values_.push_back(made_.parameters.back());
      made_.point.parameters.push_back(draw_normal(static_cast<size_t>(element_count(dims[i])), next()));
    }
    made_.network = holder(dims);
    if (tangents_) {
      for (size_t i = 0; i < dims.size(); i += 2)
        values_.push_back(graph().add_tangent(static_cast<int32_t>(i), dims[i]));
      made_.point.tangents = random_tangents(made_, next());
    }
    const size_t nodes = 25 + next() % 40;
    for (size_t tries = 0; tries < 40 * nodes && static_cast<size_t>(graph().node_count()) < nodes; ++tries) {
      try {
        grow();
      } catch (const Error&) {  // operands that do not fit: another try
      }
    }
    choose_outputs();
    return std::move(made_);
  }

 private:
  Graph& graph() { return made_.graph; }
  uint64_t next() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return state_ >> 33;
  }
  int64_t below(size_t bound) { return static_cast<int64_t>(next() % bound); }

  // Recent values more often, so that graphs get deep.
  ValueId pick() {
    const size_t from = next() % 2 == 0 && values_.size() > 6 ? values_.size() - 6 : 0;
    return values_[from + next() % (values_.size() - from)];
  }

  void keep(ValueId id) {
    if (element_count(graph().dims(id)) <= 400) values_.push_back(id);
  }

  void grow() {
    const uint64_t kind = next() % (windows_ ? 16 : 12);
    if (kind < 6) return elementwise(kind);
    const ValueId x = pick();
    if (kind < 12) return moving(kind, x);
    window(kind, x);
  }

  void elementwise(uint64_t kind) {
    const ValueId a = pick();
    Attributes attributes;
    attributes.alpha = 0.8, attributes.beta = 0.1;
    switch (kind) {
      case 0: return keep(graph().append(Op::Tanh, {a}));
      case 1: return keep(graph().append(Op::Affine, {a}, attributes));
      case 2: return keep(graph().append(Op::Sigmoid, {a}));
      case 3: return keep(graph().append(Op::Add, {a, pick()}));
      case 4: return keep(graph().append(Op::Sub, {a, pick()}));
      default: return keep(graph().append(Op::Mul, {graph().append(Op::Tanh, {a}), pick()}));
    }
  }

  void moving(uint64_t kind, ValueId x) {
    const Dims dims = graph().dims(x);
    if (dims.empty()) return;
    Attributes attributes;
    const int64_t axis = below(dims.size());
    const auto i = static_cast<size_t>(axis);
    attributes.axis = axis;
    switch (kind) {
      case 6:
        attributes.axes = {axis}, attributes.alpha = 1.0 / static_cast<double>(dims[i]);
        return keep(graph().append(Op::ReduceSum, {x}, attributes));
      case 7: return keep(graph().append(Op::Softmax, {x}, attributes));
      case 8: return keep(graph().append(Op::MatMul, {graph().append(Op::Tanh, {x}), pick()}));
      case 9: {
        Dims to = {element_count(dims)};
        if (next() % 2 == 0) to = {dims[0], element_count(dims) / dims[0]};
        return keep(graph().reshape(x, to));
      }
      case 10: {
        Dims perm(dims.size());
        for (size_t k = 0; k < perm.size(); ++k) perm[k] = static_cast<int64_t>((k + 1) % perm.size());
        return keep(graph().transpose(x, perm));
      }
      default:
        if (dims[i] > 1 && next() % 2 == 0) {
          attributes.starts = Dims(dims.size(), 0), attributes.steps = Dims(dims.size(), 1), attributes.dims = dims;
          attributes.starts[i] = 1, attributes.dims[i] -= 1;
          return keep(graph().append(Op::Slice, {x}, attributes));
        }
        return keep(graph().append(Op::Concat, {x, pick()}, attributes));
    }
  }

  void window(uint64_t kind, ValueId x) {
    Attributes attributes;
    attributes.kernel = {2, 3}, attributes.pads = {1, 1, 0, 1};
    if (kind == 12) return keep(graph().append(Op::AveragePool, {x}, attributes));
    if (kind == 13) return keep(graph().append(Op::MaxPool, {x}, attributes));
    attributes.kernel = {}, attributes.pads = {1, 1, 1, 1};
    keep(graph().append(Op::Conv, {graph().append(Op::Tanh, {x}), made_.parameters[6]}, attributes));
  }

  void choose_outputs() {
    const size_t count = 3 + next() % 4;
    for (size_t i = 0; i < count; ++i) made_.outputs.push_back(pick());
    made_.outputs.push_back(made_.outputs[0]);     // a value twice
    made_.outputs.push_back(made_.parameters[0]);  // a leaf
    const ValueId last = values_.back();
    made_.outputs.push_back(last);
    made_.outputs.push_back(graph().reshape(last, {element_count(graph().dims(last))}));  // the same memory
    made_.outputs.push_back(graph().reshape(made_.parameters[1], {2, 2}));                // a leaf's memory
  }

  RandomGraph made_;
  uint64_t state_;
  const bool windows_, tangents_;
  std::vector<ValueId> values_;
};

}  // namespace

RandomGraph random_graph(uint64_t seed, bool windows, bool tangents) {
  return Builder(seed, windows, tangents).build();
}

std::vector<Values> random_tangents(const RandomGraph& random, uint64_t seed) {
  std::vector<Values> tangents;
  for (const Values& p : random.point.parameters) tangents.push_back(draw_normal(p.size(), seed++));
  return tangents;
}

}  // namespace palimpsest::check
