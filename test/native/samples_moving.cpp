// Samples of rows that move values: reshapes, permutations, slices, gathers and their adjoints.
#include "samples.h"

namespace palimpsest::check {

namespace {

// A row of one operand and some attributes.
Sample one(Op op, std::string name, Leaf x, Attributes attributes, double dense = 0.5) {
  return {op,
          std::move(name),
          {std::move(x)},
          [op, attributes](Graph& graph, std::span<const ValueId> in) { return graph.append(op, {in[0]}, attributes); },
          Curve::exact,
          2,
          dense};
}

void add_shapes(std::vector<Sample>& samples) {
  const Dims reshapes[][2] = {{{2, 3, 4}, {6, 4}},
                              {{3, 4}, {12}},
                              {{2, 3, 4, 5}, {2, 60}},
                              {{2, 3, 4, 5}, {2, 3, 20}},
                              {{2, 3, 4, 5}, {2, 4, 5, 3}},
                              {{6, 4}, {1, 6, 2, 2}},
                              {{1}, {}},
                              {{2, 3, 4, 5}, {2, 1, 3, 4, 5}}};
  for (const auto& r : reshapes) {
    Attributes attributes;
    attributes.dims = r[1];
    samples.push_back(one(Op::Reshape, to_string(r[0]) + " to " + to_string(r[1]), {r[0]}, attributes));
  }
  const Dims perms[][2] = {{{3, 7}, {1, 0}},
                           {{2, 3, 4}, {1, 2, 0}},
                           {{2, 3, 4}, {0, 2, 1}},
                           {{2, 3, 4, 5}, {0, 2, 3, 1}},
                           {{2, 3, 4, 5}, {0, 3, 1, 2}},
                           {{2, 3, 4, 5}, {3, 1, 0, 2}},
                           {{2, 3, 4, 5}, {0, 2, 1, 3}},
                           {{2, 3, 2, 4, 3}, {0, 3, 1, 4, 2}}};
  for (const auto& p : perms) {
    Attributes attributes;
    attributes.perm = p[1];
    samples.push_back(one(Op::Transpose, to_string(p[0]) + " by " + to_string(p[1]), {p[0]}, attributes));
  }
  const Dims expands[][2] = {{{3, 1}, {3, 4}},
                             {{}, {2, 3}},
                             {{3}, {2, 3}},
                             {{1, 3, 1, 5}, {2, 3, 4, 5}},
                             {{3, 4, 5}, {2, 3, 4, 5}},
                             {{2, 3, 1, 5}, {2, 3, 4, 5}},
                             {{2, 3, 4, 1}, {2, 3, 4, 5}},
                             {{3, 4}, {3, 4}}};
  for (const auto& e : expands) {
    Attributes attributes;
    attributes.dims = e[1];
    samples.push_back(one(Op::Expand, to_string(e[0]) + " to " + to_string(e[1]), {e[0]}, attributes));
  }
}

void add_concat(std::vector<Sample>& samples) {
  struct Concat {
    std::vector<Dims> parts;
    int64_t axis;
  };
  const Concat concats[] = {
      {{{3, 4}}, 0},
      {{{3, 4}, {2, 4}}, 0},
      {{{3, 4}, {3, 1}, {3, 2}}, 1},
      {{{2, 3, 4}, {2, 2, 4}}, 1},
      {{{2, 3, 4, 5}, {2, 2, 4, 5}}, 1},
      {{{2, 3, 4, 5}, {2, 3, 1, 5}, {2, 3, 2, 5}}, 2},
      {{{2, 3, 4, 5}, {2, 3, 4, 2}}, 3},
      {{{2, 3, 4, 5}, {1, 3, 4, 5}}, 0},
  };
  for (const Concat& c : concats) {
    Sample sample{Op::Concat,
                  std::to_string(c.parts.size()) + " of " + to_string(c.parts[0]) + " along " + std::to_string(c.axis),
                  {},
                  {},
                  Curve::exact};
    for (const Dims& part : c.parts) sample.leaves.push_back({part});
    Attributes attributes;
    attributes.axis = c.axis;
    sample.build = [attributes](Graph& graph, std::span<const ValueId> in) {
      return graph.append(Op::Concat, {in.begin(), in.end()}, attributes);
    };
    samples.push_back(std::move(sample));
  }
  samples.push_back({Op::Concat,
                     "a value twice",
                     {{{2, 3}}},
                     [](Graph& graph, std::span<const ValueId> in) {
                       Attributes attributes;
                       attributes.axis = 1;
                       return graph.append(Op::Concat, {in[0], in[0]}, attributes);
                     },
                     Curve::exact});
}

void add_slices(std::vector<Sample>& samples) {
  struct Cut {
    Dims whole, starts, steps, part;
  };
  const Cut cuts[] = {
      {{5, 7}, {0, 0}, {1, 1}, {5, 6}},
      {{5, 7}, {1, 2}, {1, 1}, {4, 5}},
      {{5, 7}, {4, 6}, {-1, -1}, {5, 7}},
      {{5, 7}, {3, 5}, {-1, -2}, {4, 3}},
      {{5, 8}, {0, 1}, {2, 2}, {3, 4}},
      {{7}, {6}, {-3}, {3}},
      {{2, 4, 3, 5}, {0, 1, 0, 0}, {1, 1, 1, 1}, {2, 3, 3, 5}},
      {{2, 4, 3, 5}, {0, 3, 0, 0}, {1, -1, 1, 1}, {2, 3, 3, 5}},
      {{2, 3, 4, 5}, {0, 0, 3, 1}, {1, 1, -2, 1}, {2, 3, 2, 4}},
      {{2, 3, 4, 5}, {1, 0, 0, 4}, {-1, 2, 1, -2}, {2, 2, 4, 3}},
      {{2, 3, 4, 5}, {0, 0, 0, 0}, {1, 1, 1, 1}, {2, 3, 4, 5}},
  };
  for (const Cut& c : cuts) {
    Attributes attributes;
    attributes.starts = c.starts, attributes.steps = c.steps, attributes.dims = c.part;
    const std::string name = to_string(c.part) + " of " + to_string(c.whole) + " by " + to_string(c.steps);
    samples.push_back(one(Op::Slice, name, {c.whole}, attributes));
    attributes.dims = c.whole;
    samples.push_back(one(Op::Unslice, name, {c.part}, attributes, 0.2));
  }
}

void add_indexing(std::vector<Sample>& samples) {
  struct Pick {
    Dims x;
    int64_t axis;
    Dims indices;
  };
  const Pick picks[] = {
      {{5, 3}, 0, {4, 0, 2}},       {{5, 3}, 0, {1, 1, 3, 1, 0, 1}}, {{2, 5, 3}, 1, {3, 0, 3, 4}},
      {{4}, 0, {2, 0, 1}},          {{2, 3, 4, 5}, 1, {2, 0}},       {{2, 3, 4, 5}, 2, {0, 3, 3, 1}},
      {{2, 3, 4, 5}, 3, {4, 1, 2}}, {{2, 3, 4, 5}, 0, {1, 1}},
  };
  for (const Pick& p : picks) {
    Attributes attributes;
    attributes.axis = p.axis, attributes.indices = p.indices;
    const std::string name = to_string(p.indices) + " of " + to_string(p.x) + " along " + std::to_string(p.axis);
    samples.push_back(one(Op::Gather, name, {p.x}, attributes));
    Dims picked = p.x;
    picked[static_cast<size_t>(p.axis)] = static_cast<int64_t>(p.indices.size());
    attributes.dims = p.x;
    samples.push_back(one(Op::ScatterAdd, name, {picked}, attributes, 0.4));
  }
}

void add_along_axis(std::vector<Sample>& samples) {
  struct Along {
    Dims x;
    int64_t axis;
  };
  for (const Along& a : {Along{{3, 4}, 1}, Along{{3, 4}, 0}, Along{{2, 3, 4}, 1}, Along{{2, 3, 4, 5}, 1},
                         Along{{2, 3, 4, 5}, 3}, Along{{2, 3, 2, 5}, 2}}) {
    const std::string name = to_string(a.x) + " along " + std::to_string(a.axis);
    Attributes attributes;
    attributes.axis = a.axis;
    Leaf guide{a.x, -2, 2, {}, 0, Draw::distinct, true};
    samples.push_back({Op::TakeAlongAxis,
                       name,
                       {guide, {a.x}},
                       [attributes](Graph& graph, std::span<const ValueId> in) {
                         const ValueId index = graph.sibling(graph.append(Op::ReduceMax, {in[0]}, attributes), 1);
                         return graph.append(Op::TakeAlongAxis, {in[1], index}, attributes);
                       },
                       Curve::exact});
    Dims picked = a.x;
    picked[static_cast<size_t>(a.axis)] = 1;
    Attributes put = attributes;
    put.dims = a.x;
    samples.push_back({Op::PutAlongAxis,
                       name,
                       {guide, {picked}},
                       [attributes, put](Graph& graph, std::span<const ValueId> in) {
                         const ValueId index = graph.sibling(graph.append(Op::ReduceMax, {in[0]}, attributes), 1);
                         return graph.append(Op::PutAlongAxis, {in[1], index}, put);
                       },
                       Curve::exact,
                       2,
                       0.2});
  }
}

void add_constants(std::vector<Sample>& samples) {
  for (const Dims& dims : {Dims{}, Dims{3, 5}, Dims{2, 3, 4, 5}}) {
    samples.push_back({Op::ConstantOfShape,
                       to_string(dims),
                       {},
                       [dims](Graph& graph, std::span<const ValueId>) {
                         Attributes attributes;
                         attributes.dims = dims, attributes.alpha = -1.25;
                         return graph.append(Op::ConstantOfShape, {}, attributes);
                       },
                       Curve::constant});
  }
}

}  // namespace

void add_moving_samples(std::vector<Sample>& samples) {
  add_shapes(samples);
  add_concat(samples);
  add_slices(samples);
  add_indexing(samples);
  add_along_axis(samples);
  add_constants(samples);
}

}  // namespace palimpsest::check
