// Samples of convolutions and pools with their adjoints.
#include "samples.h"

namespace palimpsest::check {

namespace {

struct Window {
  const char* name;
  Dims x, w;  // w: of a convolution [O, C/groups, KH, KW]; of a pool [KH, KW]
  int64_t group = 1;
  Dims strides = {}, pads = {}, dilations = {};
};

Attributes attributes_of(const Window& window) {
  Attributes attributes;
  attributes.group = window.group;
  attributes.strides = window.strides;
  attributes.pads = window.pads;
  attributes.dilations = window.dilations;
  if (window.w.size() == 2) attributes.kernel = window.w;
  return attributes;
}

const Window convolutions[] = {
    {"3x3", {2, 3, 5, 7}, {4, 3, 3, 3}},
    {"3x3 same", {2, 3, 5, 7}, {4, 3, 3, 3}, 1, {}, {1, 1, 1, 1}},
    {"1x1", {2, 3, 5, 7}, {4, 3, 1, 1}},
    {"1x1 stride 2", {2, 3, 5, 6}, {4, 3, 1, 1}, 1, {2, 2}},
    {"uneven pads", {2, 3, 5, 7}, {4, 3, 3, 2}, 1, {}, {1, 0, 2, 1}},
    {"uneven strides", {2, 3, 7, 8}, {4, 3, 3, 3}, 1, {2, 3}, {1, 1, 1, 1}},
    {"rows that no window reads", {1, 2, 6, 8}, {3, 2, 2, 2}, 1, {3, 3}},
    {"uneven dilations", {2, 3, 7, 8}, {4, 3, 3, 3}, 1, {}, {2, 1, 2, 1}, {2, 1}},
    {"stride and dilation", {1, 2, 9, 8}, {3, 2, 3, 2}, 1, {2, 1}, {1, 2, 0, 1}, {2, 3}},
    {"groups", {2, 4, 5, 6}, {6, 2, 3, 3}, 2, {}, {1, 1, 1, 1}},
    {"depthwise", {2, 5, 6, 7}, {5, 1, 3, 3}, 5, {}, {1, 1, 1, 1}},
    {"depthwise stride 2", {2, 5, 6, 7}, {5, 1, 3, 3}, 5, {2, 2}, {1, 1, 1, 1}},
    {"depthwise multiplier", {2, 3, 5, 6}, {6, 1, 3, 3}, 3, {1, 2}, {1, 1, 1, 1}},
    {"pads as wide as the kernel", {1, 2, 3, 4}, {3, 2, 2, 3}, 1, {}, {2, 3, 2, 3}},
    {"kernel as large as the image", {3, 2, 4, 5}, {3, 2, 4, 5}},
    {"1x5 and one row", {2, 3, 1, 9}, {4, 3, 1, 5}, 1, {}, {0, 2, 0, 2}},
    {"many channels", {1, 19, 4, 3}, {17, 19, 3, 3}, 1, {}, {1, 1, 1, 1}},
    {"one channel", {3, 1, 6, 5}, {1, 1, 3, 3}},
};

// The row `op` of a convolution: y = C(x, w), x_bar = CI(y_bar, w), w_bar = CW(x, y_bar), s = CS(x, y_bar).
Sample convolution_sample(Op op, const Window& c) {
  Attributes attributes = attributes_of(c);
  const Graph scratch = [&] {
    Graph graph(1);
    graph.append(Op::Conv, {graph.add_parameter(0, c.x), graph.add_parameter(1, c.w)}, attributes);
    return graph;
  }();
  const Dims y = scratch.dims(scratch.value_count() - 1);
  Sample sample{op, c.name, {{c.x}, {c.w}}, {}, Curve::exact};
  if (op == Op::ConvInputGradient) sample.leaves[0].dims = y, attributes.dims = c.x, sample.dense = 0.25;
  if (op == Op::ConvWeightGradient || op == Op::ConvGradientSquares) sample.leaves[1].dims = y, attributes.dims = c.w;
  if (op == Op::ConvGradientSquares) sample.orders = 0;
  sample.build = [op, attributes](Graph& graph, std::span<const ValueId> in) {
    return graph.append(op, {in[0], in[1]}, attributes);
  };
  return sample;
}

const Window pools[] = {
    {"2x2 stride 2", {2, 3, 6, 8}, {2, 2}, 1, {2, 2}},
    {"3x3 stride 1", {2, 3, 5, 7}, {3, 3}},
    {"3x3 stride 2 same", {2, 3, 5, 7}, {3, 3}, 1, {2, 2}, {1, 1, 1, 1}},
    {"uneven", {2, 3, 6, 7}, {2, 3}, 1, {1, 2}, {1, 0, 0, 2}},
    {"dilated", {2, 3, 7, 8}, {2, 3}, 1, {}, {1, 2, 0, 1}, {2, 2}},
    {"rows that no window reads", {1, 2, 7, 8}, {2, 2}, 1, {3, 3}},
    {"whole image", {2, 3, 4, 5}, {4, 5}},
    {"one element", {2, 3, 4, 5}, {1, 1}},
    {"many channels", {1, 67, 4, 5}, {2, 2}, 1, {2, 1}},
};

void add_max_pools(std::vector<Sample>& samples, const Window& p) {
  const Attributes attributes = attributes_of(p);
  const Leaf x{p.x, -2, 2, {}, 0, Draw::distinct};
  Leaf guide = x;  // the index comes from another image
  guide.fixed = true;
  samples.push_back({Op::MaxPool, p.name, {x}, [attributes](Graph& graph, std::span<const ValueId> in) {
                       return graph.append(Op::MaxPool, {in[0]}, attributes);
                     }});
  samples.push_back({Op::PoolGather,
                     p.name,
                     {guide, {p.x}},
                     [attributes](Graph& graph, std::span<const ValueId> in) {
                       const ValueId index = graph.sibling(graph.append(Op::MaxPool, {in[0]}, attributes), 1);
                       return graph.append(Op::PoolGather, {in[1], index}, attributes);
                     },
                     Curve::exact});
  Graph scratch(1);
  const Dims y = scratch.dims(scratch.append(Op::MaxPool, {scratch.add_parameter(0, p.x)}, attributes));
  Attributes adjoint = attributes;
  adjoint.dims = p.x;
  samples.push_back({Op::PoolScatter,
                     p.name,
                     {guide, {y}},
                     [attributes, adjoint](Graph& graph, std::span<const ValueId> in) {
                       const ValueId index = graph.sibling(graph.append(Op::MaxPool, {in[0]}, attributes), 1);
                       return graph.append(Op::PoolScatter, {in[1], index}, adjoint);
                     },
                     Curve::exact,
                     2,
                     0.04});
}

void add_average_pools(std::vector<Sample>& samples, const Window& p) {
  for (bool count_pads : {false, true}) {
    Attributes attributes = attributes_of(p);
    attributes.count_pads = count_pads;
    const std::string name = std::string(p.name) + (count_pads ? ", pads count" : "");
    samples.push_back({Op::AveragePool,
                       name,
                       {{p.x}},
                       [attributes](Graph& graph, std::span<const ValueId> in) {
                         return graph.append(Op::AveragePool, {in[0]}, attributes);
                       },
                       Curve::exact});
    Graph scratch(1);
    const Dims y = scratch.dims(scratch.append(Op::AveragePool, {scratch.add_parameter(0, p.x)}, attributes));
    attributes.dims = p.x;
    samples.push_back({Op::AveragePoolGradient,
                       name,
                       {{y}},
                       [attributes](Graph& graph, std::span<const ValueId> in) {
                         return graph.append(Op::AveragePoolGradient, {in[0]}, attributes);
                       },
                       Curve::exact,
                       2,
                       0.3});
  }
}

}  // namespace

void add_window_samples(std::vector<Sample>& samples) {
  for (const Window& c : convolutions) {
    for (Op op : {Op::Conv, Op::ConvInputGradient, Op::ConvWeightGradient, Op::ConvGradientSquares}) {
      samples.push_back(convolution_sample(op, c));
    }
  }
  for (const Window& p : pools) {
    add_max_pools(samples, p);
    add_average_pools(samples, p);
  }
}

}  // namespace palimpsest::check
