// Samples of matrix products, reductions, softmax and batch normalisation.
#include "samples.h"

namespace palimpsest::check {

namespace {

struct Product {
  Dims a, b;
  bool trans_a = false, trans_b = false;
  double alpha = 1;
};

const Product products[] = {
    {{3, 4}, {4, 5}},
    {{4, 3}, {4, 5}, true},
    {{3, 4}, {5, 4}, false, true},
    {{4, 3}, {5, 4}, true, true, -0.7},
    {{3, 4}, {4, 5}, false, false, 2.5},
    {{1, 4}, {4, 1}},
    {{4, 1}, {1, 4}},
    {{7, 13}, {13, 9}},
    {{33, 17}, {19, 17}, false, true},
    {{2, 3, 4}, {4, 5}},                    // rows of one weight
    {{2, 3, 4}, {5, 4}, false, true, 0.3},  // the same, transposed
    {{2, 4, 3}, {4, 5}, true},              // not rows: the weight's cotangent is summed over the leading axis
    {{2, 4, 3}, {5, 4}, true, true},
    {{3, 4}, {2, 4, 5}},  // the first operand repeats
    {{4, 3}, {2, 5, 4}, true, true},
    {{2, 3, 4}, {2, 4, 5}},
    {{2, 3, 4}, {2, 5, 4}, false, true},
    {{2, 4, 3}, {2, 4, 5}, true},
    {{1, 3, 4}, {2, 4, 5}},
    {{2, 3, 4}, {1, 4, 5}},
    {{2, 1, 3, 4}, {1, 5, 4, 6}},  // leading axes that broadcast in part
    {{5, 3, 4}, {2, 1, 4, 6}},
    {{2, 1, 4, 3}, {1, 5, 6, 4}, true, true},
    {{2, 3, 5, 4}, {2, 3, 4, 6}},  // attention's shapes
    {{2, 3, 5, 4}, {2, 3, 6, 4}, false, true, 0.5},
    {{2, 3, 4, 5}, {5, 7}},
    {{2, 3, 4, 5}, {7, 5}, false, true},
    {{2, 2, 3, 2, 4}, {3, 4, 5}},
};

std::string text(const Product& p) {
  return to_string(p.a) + (p.trans_a ? "^T" : "") + to_string(p.b) + (p.trans_b ? "^T" : "") +
         (p.alpha != 1 ? " times " + std::to_string(p.alpha) : "");
}

void add_matmul(std::vector<Sample>& samples) {
  for (const Product& p : products) {
    Attributes attributes;
    attributes.trans_a = p.trans_a, attributes.trans_b = p.trans_b, attributes.alpha = p.alpha;
    samples.push_back({Op::MatMul,
                       text(p),
                       {{p.a}, {p.b}},
                       [attributes](Graph& graph, std::span<const ValueId> in) {
                         return graph.append(Op::MatMul, {in[0], in[1]}, attributes);
                       },
                       Curve::exact});
  }
  Attributes gram;
  gram.trans_b = true;
  samples.push_back({Op::MatMul,
                     "x x^T",
                     {{{2, 3, 4}}},
                     [gram](Graph& graph, std::span<const ValueId> in) {
                       return graph.append(Op::MatMul, {in[0], in[0]}, gram);
                     },
                     Curve::exact});
  const Dims squares[][2] = {
      {{3, 1, 4}, {3, 1, 5}}, {{3, 6, 4}, {3, 6, 5}}, {{2, 7, 33}, {2, 7, 19}}, {{1, 3, 1}, {1, 3, 1}}};
  for (const auto& s : squares) {
    samples.push_back({Op::LinearGradientSquares,
                       to_string(s[0]) + to_string(s[1]),
                       {{s[0]}, {s[1]}},
                       [](Graph& graph, std::span<const ValueId> in) {
                         return graph.append(Op::LinearGradientSquares, {in[0], in[1]});
                       },
                       Curve::smooth,
                       0});
  }
}

void add_reductions(std::vector<Sample>& samples) {
  struct Reduction {
    Dims x, axes;
    double alpha = 1;
  };
  const Reduction sums[] = {
      {{3, 7}, {1}},       {{3, 7}, {0}, -0.5},       {{3, 7}, {0, 1}},
      {{3, 7}, {}, 1.5},   {{2, 3, 4}, {1}},          {{2, 3, 4}, {0, 2}},
      {{2, 1, 4}, {1}},    {{5}, {0}, 0.2},           {{2, 3, 4, 5}, {2, 3}, 0.05},
      {{2, 3, 4, 5}, {1}}, {{2, 3, 4, 5}, {0, 2, 3}}, {{2, 3, 4, 5}, {3}},
      {{2, 3, 4, 5}, {0}}, {{2, 3, 4, 5}, {1, 3}},    {{2, 3, 4, 5}, {0, 1, 2, 3}},
  };
  for (const Reduction& r : sums) {
    Attributes attributes;
    attributes.axes = r.axes, attributes.alpha = r.alpha;
    samples.push_back({Op::ReduceSum,
                       to_string(r.x) + " over " + to_string(r.axes),
                       {{r.x}},
                       [attributes](Graph& graph, std::span<const ValueId> in) {
                         return graph.append(Op::ReduceSum, {in[0]}, attributes);
                       },
                       Curve::exact});
  }
}

void add_along_axis(std::vector<Sample>& samples) {
  struct Along {
    Dims x;
    int64_t axis;
  };
  const Along along[] = {{{3, 7}, 1},       {{3, 7}, 0},       {{2, 3, 4}, 1},   {{2, 3, 4, 5}, 1},
                         {{2, 3, 4, 5}, 3}, {{2, 3, 4, 5}, 2}, {{2, 3, 4, 5}, 0}};
  for (const Along& a : along) {
    const std::string name = to_string(a.x) + " along " + std::to_string(a.axis);
    Attributes attributes;
    attributes.axis = a.axis;
    for (Op op : {Op::Softmax, Op::LogSoftmax}) {
      samples.push_back({op, name, {{a.x, -3, 3}}, [op, attributes](Graph& graph, std::span<const ValueId> in) {
                           return graph.append(op, {in[0]}, attributes);
                         }});
    }
    samples.push_back({Op::ReduceMax,
                       name,
                       {{a.x, -2, 2, {}, 0, Draw::distinct}},
                       [attributes](Graph& graph, std::span<const ValueId> in) {
                         return graph.append(Op::ReduceMax, {in[0]}, attributes);
                       }});
  }
}

void add_batch_norm(std::vector<Sample>& samples) {
  for (const Dims& x : {Dims{5, 3}, Dims{3, 2, 4, 5}, Dims{2, 17, 1, 1}, Dims{1, 3, 2, 3}}) {
    for (int output : {0, 1, 2}) {
      // The statistics' own derivatives are not offered: they are values for the running averages.
      samples.push_back({Op::BatchNormalizationTraining,
                         to_string(x) + " output " + std::to_string(output),
                         {{x}},
                         [output](Graph& graph, std::span<const ValueId> in) {
                           Attributes attributes;
                           attributes.epsilon = 0.01;
                           return graph.sibling(graph.append(Op::BatchNormalizationTraining, {in[0]}, attributes),
                                                output);
                         },
                         Curve::smooth,
                         output == 0 ? 1 : 0});
    }
  }
}

void add_channel_statistics(std::vector<Sample>& samples) {
  for (const Dims& x : {Dims{6, 3, 4, 5}, Dims{7, 17, 3, 2}, Dims{5, 33, 1, 1}}) {
    samples.push_back({Op::ChannelStatistics,
                       to_string(x),
                       {{x, -0.5, 1.5}, {{x[0], 2}, 0, 1, {}, 0, Draw::gate}},
                       [](Graph& graph, std::span<const ValueId> in) {
                         return graph.append(Op::ChannelStatistics, {in[0], in[1]});
                       },
                       Curve::smooth,
                       0,
                       0.15});
  }
}

}  // namespace

void add_product_samples(std::vector<Sample>& samples) {
  add_matmul(samples);
  add_reductions(samples);
  add_along_axis(samples);
  add_batch_norm(samples);
  add_channel_statistics(samples);
}

}  // namespace palimpsest::check
