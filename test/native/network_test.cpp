// What a network description may not be: mixed examples, broken ids, shapes that do not fit, sizes that overflow.
#include <functional>
#include <limits>

#include "check.h"
#include "laboratory.h"
#include "samples.h"
#include "tiny_networks.h"

namespace palimpsest::check {

namespace {

constexpr int64_t huge = std::numeric_limits<int64_t>::max();

template <class Set>
Attributes with(Set set) {
  Attributes attributes;
  set(attributes);
  return attributes;
}
Attributes along(int64_t axis) {
  return with([&](Attributes& a) { a.axis = axis; });
}
Attributes to_dims(Dims dims) {
  return with([&](Attributes& a) { a.dims = std::move(dims); });
}

struct Bad {
  std::string name;
  ErrorCode code;
  std::function<NetworkDescription()> describe;
  const char* named = "";  // what the message must point at
};

// A network [N, 4] -> [N, 3] with `middle` between its layers.
NetworkDescription around(const std::function<int32_t(NetworkMaker&, int32_t)>& middle) {
  NetworkMaker m({4});
  const int32_t h = middle(m, m.linear(m.input(), "one", 4, 6));  // [N, 6]
  return m.finish(m.linear(h, "two", 6, 3), 3);
}

NetworkDescription spoilt(const std::function<void(NetworkDescription&)>& spoil) {
  NetworkDescription description = around([](NetworkMaker& m, int32_t h) { return m.node("Tanh", {h}); });
  spoil(description);
  return description;
}

// Rows that look at other examples. What holds for N = 2 and 3 by chance is caught too.
const Bad mixing[] = {
    {"softmax over the batch", ErrorCode::unsupported,
     [] { return around([](NetworkMaker& m, int32_t h) { return m.node("Softmax", {h}, along(0)); }); }, "(Softmax)"},
    {"a sum over the batch", ErrorCode::unsupported,
     [] { return around([](NetworkMaker& m, int32_t h) {
            return m.node("Sub", {h, m.mean(h, {0}, 1)});
          }); },
     "(ReduceSum)"},
    {"a maximum over the batch", ErrorCode::unsupported,
     [] {
       return around([](NetworkMaker& m, int32_t h) { return m.node("Sub", {h, m.node("ReduceMax", {h}, along(0))}); });
     },
     "(ReduceMax)"},
    {"examples in reverse", ErrorCode::unsupported,
     [] {  // the start depends on N
       return around([](NetworkMaker& m, int32_t h) {
         return m.node("Slice", {h}, with([](Attributes& a) {
                         a.starts = {1, 0}, a.steps = {-1, 1}, a.dims = {-1, 6};
                       }));
       });
     },
     "(Slice)"},
    {"the first example", ErrorCode::unsupported,
     [] { return around([](NetworkMaker& m, int32_t h) {
            return m.node("Add", {h, m.slice(h, {0, 0}, {1, 6})});
          }); },
     "(Slice)"},
    {"a gather of examples", ErrorCode::unsupported,
     [] {
       return around([](NetworkMaker& m, int32_t h) {
         return m.node("Add", {h, m.node("Gather", {h}, with([](Attributes& a) { a.indices = {1}; }))});
       });
     },
     "(Gather)"},
    {"the batch twice", ErrorCode::unsupported,
     [] {
       return around([](NetworkMaker& m, int32_t h) {
         return m.slice(m.node("Concat", {h, h}, along(0)), {0, 0}, {-1, 6});
       });
     },
     "(Concat)"},
    {"a transposed batch", ErrorCode::unsupported,
     [] {
       return around([](NetworkMaker& m, int32_t h) {
         Attributes gram;
         gram.trans_b = true;
         return m.node("MatMul", {m.node("MatMul", {h, h}, gram), h});
       });
     },
     "node 2 (MatMul)"},
    {"a reshape across examples", ErrorCode::unsupported,
     [] {
       return around([](NetworkMaker& m, int32_t h) {
         return m.reshape(m.node("Tanh", {m.reshape(h, {2, -3})}), {-1, 6});
       });
     },
     "(Reshape)"},
    {"examples and features that change places", ErrorCode::unsupported,
     [] {
       return around([](NetworkMaker& m, int32_t h) {
         return m.reshape(m.node("Softmax", {m.reshape(h, {6, -1})}, along(1)), {-1, 6});
       });
     },
     "(Reshape)"},
    {"softmax over merged tokens", ErrorCode::unsupported,
     [] {
       return around([](NetworkMaker& m, int32_t h) {
         return m.reshape(m.node("Softmax", {m.reshape(h, {-2, 3})}, along(0)), {-1, 6});
       });
     },
     "(Softmax)"},
    {"batch normalisation by the batch", ErrorCode::unsupported,
     [] { return around([](NetworkMaker& m, int32_t h) { return m.node("BatchNormalizationTraining", {h}); }); },
     "(BatchNormalizationTraining)"},
    {"a kernel made of examples", ErrorCode::unsupported,
     [] {
       NetworkMaker m({1, 4, 4});
       const int32_t w = m.reshape(m.slice(m.input(), {0, 0, 0, 0}, {-1, 1, 3, 3}), {-1, 1, 3, 3});
       return m.finish(m.reshape(m.node("Conv", {m.parameter("image", {1, 1, 4, 4}), w}), {-1, 4}), 4);
     },
     "(Conv)"},
    {"logits of one example in two rows", ErrorCode::shape,
     [] {
       NetworkMaker m({4});
       return m.finish(m.reshape(m.linear(m.input(), "one", 4, 6), {-2, 3}), 3);
     },
     "one row an example"},
    {"logits along the batch", ErrorCode::shape,
     [] {
       NetworkMaker m({4});
       return m.finish(m.transpose(m.linear(m.input(), "one", 4, 3), {1, 0}), 3);
     },
     "one row an example"},
    {"logits that read no example", ErrorCode::shape,
     [] {
       NetworkMaker m({4});
       return m.finish(m.node("Expand", {m.parameter("p", {1, 3})}, to_dims({-1, 3})), 3);
     },
     "one row an example"},
    {"products over the batch", ErrorCode::unsupported,
     [] {
       return around([](NetworkMaker& m, int32_t h) {
         Attributes gram;
         gram.trans_a = true;
         return m.node("MatMul", {h, m.node("MatMul", {h, h}, gram)});
       });
     },
     "node 2 (MatMul)"},
    {"pairs of examples", ErrorCode::unsupported,
     [] {
       return around([](NetworkMaker& m, int32_t h) {
         const int32_t column = m.mean(h, {1}, 6);
         return m.node("MatMul", {m.node("Add", {column, m.transpose(column, {1, 0})}), h});
       });
     },
     "node 4 (Add)"},
};

const Bad broken[] = {
    {"an operator that is no row", ErrorCode::unsupported_operator,
     [] { return around([](NetworkMaker& m, int32_t h) { return m.node("Einsum", {h}); }); }},
    {"an input that nothing computes", ErrorCode::model_format,
     [] { return around([](NetworkMaker& m, int32_t h) {
            return m.node("Add", {h, 999});
          }); }},
    {"a negative id", ErrorCode::model_format,
     [] { return around([](NetworkMaker& m, int32_t h) {
            return m.node("Add", {h, -1});
          }); }},
    {"a cycle", ErrorCode::model_format,
     [] { return spoilt([](NetworkDescription& d) { d.nodes[0].inputs[0] = d.nodes.back().outputs[0]; }); }},
    {"nodes out of order", ErrorCode::model_format,
     [] { return spoilt([](NetworkDescription& d) { std::swap(d.nodes[0], d.nodes[1]); }); }},
    {"a value defined twice", ErrorCode::model_format,
     [] { return spoilt([](NetworkDescription& d) { d.nodes[1].outputs[0] = d.nodes[0].outputs[0]; }); }},
    {"a node that redefines a leaf", ErrorCode::model_format,
     [] { return spoilt([](NetworkDescription& d) { d.nodes[1].outputs[0] = 0; }); }},
    {"ids without end", ErrorCode::model_format,
     [] { return spoilt([](NetworkDescription& d) { d.leaves[1].id = 1 << 30; }); }},
    {"a leaf of negative id", ErrorCode::model_format,
     [] { return spoilt([](NetworkDescription& d) { d.leaves[1].id = -7; }); }},
    {"an output that nothing computes", ErrorCode::model_format,
     [] { return spoilt([](NetworkDescription& d) { d.output = 500; }); }},
    {"no output", ErrorCode::model_format, [] { return spoilt([](NetworkDescription& d) { d.output = -1; }); }},
    {"a node without outputs", ErrorCode::model_format,
     [] { return spoilt([](NetworkDescription& d) { d.nodes[1].outputs.clear(); }); }},
    {"a node with too many outputs", ErrorCode::model_format,
     [] { return spoilt([](NetworkDescription& d) {
            d.nodes[2].outputs = {d.nodes[2].outputs[0], 700};
          }); }},
    {"no input", ErrorCode::model_format,
     [] {
       return spoilt([](NetworkDescription& d) {
         d.leaves[0] = {Source::constant, 0, "x", {2, 4}, std::vector<float>(8)};
       });
     }},
    {"two inputs", ErrorCode::model_format,
     [] { return spoilt([](NetworkDescription& d) {
            d.leaves.push_back({Source::input, 800, "x2", {}, {}});
          }); }},
    {"a leaf of no kind", ErrorCode::model_format,
     [] { return spoilt([](NetworkDescription& d) {
            d.leaves.push_back({Source::tangent, 800, "t", {2}, {}});
          }); }},
    {"two parameters of one name", ErrorCode::model_format,
     [] { return spoilt([](NetworkDescription& d) { d.leaves[2].name = d.leaves[1].name; }); }},
    {"a constant of another size", ErrorCode::model_format,
     [] {
       return spoilt([](NetworkDescription& d) {
         d.leaves.push_back({Source::constant, 800, "c", {2, 2}, {1, 2, 3}});
       });
     }},
    {"a constant whose size overflows", ErrorCode::shape,
     [] {
       return spoilt([](NetworkDescription& d) {
         d.leaves.push_back({Source::constant, 800, "c", {huge, huge}, {1}});
       });
     }},
    {"a parameter of negative size", ErrorCode::shape,
     [] { return spoilt([](NetworkDescription& d) { d.leaves[1].dims[0] = -6; }); }},
    {"a parameter of no size", ErrorCode::shape,
     [] {
       return spoilt([](NetworkDescription& d) { d.leaves.push_back({Source::parameter, 800, "p", {0, huge}, {}}); });
     }},
    {"an input of no size", ErrorCode::shape,
     [] { return spoilt([](NetworkDescription& d) { d.input_shape = {0}; }); }},
    {"an input whose size overflows", ErrorCode::shape,
     [] { return spoilt([](NetworkDescription& d) {
            d.input_shape = {huge / 4, huge / 4};
          }); }},
    {"an input of another shape", ErrorCode::shape,
     [] { return spoilt([](NetworkDescription& d) { d.input_shape = {5}; }); }},
    {"other classes", ErrorCode::shape, [] { return spoilt([](NetworkDescription& d) { d.classes = 4; }); }},
    {"no classes", ErrorCode::shape, [] { return spoilt([](NetworkDescription& d) { d.classes = 0; }); }},
    {"a reshape that overflows", ErrorCode::shape,
     [] { return around([](NetworkMaker& m, int32_t h) {
            return m.reshape(h, {-huge, -huge});
          }); }},
    {"a reshape by the most negative number", ErrorCode::shape,
     [] { return around([](NetworkMaker& m, int32_t h) {
            return m.reshape(h, {-huge - 1, 6});
          }); }},
    {"an expand bomb", ErrorCode::shape,
     [] {
       return around([](NetworkMaker& m, int32_t h) { return m.node("Expand", {h}, to_dims({huge / 8, -1, 6})); });
     }},
    {"positions for values", ErrorCode::model_format,
     [] {
       return around([](NetworkMaker& m, int32_t h) {
         const int32_t best = m.node("ReduceMax", {h}, along(1));
         m.description().nodes.back().outputs.push_back(900);
         return m.node("Add", {best, 900});
       });
     }},
    {"positions for logits", ErrorCode::model_format,
     [] {
       NetworkMaker m({4});
       m.node("ReduceMax", {m.input()}, along(1));
       m.description().nodes.back().outputs.push_back(900);
       return m.finish(900, 1);
     }},
    {"batch normalisation of a vector", ErrorCode::shape,
     [] {
       NetworkMaker m({});
       return m.finish(m.reshape(m.batch_norm(m.input(), "bn", 1), {-1, 1}), 1);
     }},
    {"batch normalisation of other channels", ErrorCode::shape,
     [] { return around([](NetworkMaker& m, int32_t h) { return m.batch_norm(h, "bn", 5); }); }},
    {"batch normalisation of four inputs", ErrorCode::shape,
     [] {
       return around([](NetworkMaker& m, int32_t h) {
         const int32_t y = m.batch_norm(h, "bn", 6);
         m.description().nodes.back().inputs.pop_back();
         return y;
       });
     }},
    {"squares in a network", ErrorCode::unsupported,
     [] {
       NetworkMaker m({2, 4});
       return m.finish(m.reshape(m.node("LinearGradientSquares", {m.input(), m.input()}), {-1, 16}), 16);
     }},
};

void add_bad(const Bad& bad) {
  add_test("networks refuse " + bad.name, [&bad] {
    const NetworkDescription description = bad.describe();
    CHECK_THROWS(bad.code, Network{description});
    try {
      Network{description};
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find(bad.named) != std::string::npos);
    }
  });
}

}  // namespace

SWEEP(networks_refuse) {
  for (const Bad& bad : mixing) add_bad(bad);
  for (const Bad& bad : broken) add_bad(bad);
}

// The descriptions that the refusals spoil are good ones.
TEST(networks_accept_what_keeps_examples_apart) {
  CHECK(Network(spoilt([](NetworkDescription&) {})).layout().parameter_count() == 4 * 6 + 6 + 6 * 3 + 3);
  for (const TinyNetwork& tiny : tiny_networks()) {
    const Network network(tiny.description);
    for (int64_t n : {1, 2, 4, 6, 7}) {
      const InstantiatedGraph made = network.instantiate({n, false});
      CHECK(made.graph.dims(made.logits) == Dims({n, tiny.description.classes}));
    }
    CHECK_THROWS(ErrorCode::invalid_argument, network.instantiate({0, false}));
    CHECK_THROWS(ErrorCode::invalid_argument, network.instantiate({-2, false}));
  }
}

// The batch may stand on any axis, merged with others, as long as examples stay apart.
TEST(networks_follow_the_batch_axis) {
  NetworkMaker m({6, 4});
  const int32_t turned = m.transpose(m.input(), {1, 0, 2});                // [6, N, 4]
  const int32_t rows = m.linear(m.reshape(turned, {-6, 4}), "one", 4, 5);  // [6 N, 5]
  const int32_t heads = m.reshape(rows, {2, 3, -1, 5});                    // outer 6 split again
  const int32_t back = m.transpose(heads, {2, 0, 1, 3});                   // [N, 2, 3, 5]
  Attributes last;
  last.axis = 3;
  const int32_t weighted = m.node("Softmax", {back}, last);
  const Network network(m.finish(m.linear(m.reshape(weighted, {-1, 30}), "two", 30, 2), 2));
  const InstantiatedGraph made = network.instantiate({5, false});
  bool merged = false;
  for (ValueId id = 0; id < made.graph.value_count(); ++id) {
    merged = merged || made.graph.value(id).batch == BatchAxis{0, 6, 1};
  }
  CHECK(merged);
}

namespace {

// Convolution, bias, gate, maximum, twice; with `blocked` an identity before each maximum keeps it where it is.
NetworkDescription pooled(const std::string& gate, bool blocked) {
  NetworkMaker m({2, 9, 8});
  Attributes window;
  window.kernel = {2, 3}, window.strides = {2, 1}, window.pads = {1, 0, 0, 1};
  const auto stage = [&](int32_t x, const std::string& name, int64_t in, int64_t out) {
    const int32_t bias = m.parameter(name + ".bias", {out});
    const int32_t y = m.node("Add", {m.reshape(bias, {1, out, 1, 1}), m.conv(x, name, {out, in, 2, 2})});
    int32_t h = m.node(gate, {y}, with([](Attributes& a) { a.alpha = 0.25; }));
    if (blocked) h = m.node("Affine", {h});
    return m.node("MaxPool", {h}, window);
  };
  const int32_t h = stage(stage(m.input(), "one", 2, 5), "two", 5, 3);  // [5, 4, 6], [3, 2, 4]
  return m.finish(m.linear(m.reshape(h, {-1, 24}), "head", 24, 3), 3);
}

int count(const InstantiatedGraph& made, const std::function<bool(const Graph&, const Node&)>& holds) {
  int found = 0;
  for (int32_t i = 0; i < made.graph.node_count(); ++i) found += holds(made.graph, made.graph.node(i));
  return found;
}

}  // namespace

// The maximum of a gate is the gate of the maximum: the same values, fewer of them.
TEST(pools_run_before_gates_and_biases) {
  for (const std::string gate : {"Relu", "LeakyRelu"}) {
    const Laboratory plain(pooled(gate, true), "pooled", 5), moved(pooled(gate, false), "pooled", 5);
    const auto after_conv = [](const Graph& graph, const Node& node) {
      return node.op == Op::MaxPool && graph.node(graph.value(node.inputs[0]).node).op == Op::Conv;
    };
    CHECK(count(plain.network().instantiate({2, false}), after_conv) == 0);
    CHECK(count(moved.network().instantiate({2, false}), after_conv) == 2);
    CHECK(plain.run(Quantity::evaluate).rows == moved.run(Quantity::evaluate).rows);
    const Values v = plain.direction(3);
    CHECK(distance(moved.run(Quantity::jvp, v).rows[0], plain.run(Quantity::jvp, v).rows[0]) <= 1e-13);
    for (const Quantity quantity : {Quantity::gradient, Quantity::fisher_empirical}) {
      CHECK(distance(moved.run(quantity).sums, plain.run(quantity).sums) <= 1e-13);
    }
    CHECK(distance(moved.run(Quantity::hessian_product, v).sums, plain.run(Quantity::hessian_product, v).sums) <=
          1e-12);
  }
}

// What something else reads, falls with its input or differs from place to place stays where it is.
TEST(pools_stay_behind_what_is_read_elsewhere) {
  const auto first_before_pool = [](const std::function<int32_t(NetworkMaker&, int32_t)>& before) {
    NetworkMaker m({2, 4, 4});
    Attributes window;
    window.kernel = {2, 2}, window.strides = {2, 2};
    const int32_t h = m.node("MaxPool", {before(m, m.conv(m.input(), "one", {3, 2, 1, 1}))}, window);
    const int32_t y = m.linear(m.reshape(h, {-1, 12}), "head", 12, 3);
    const Network network(m.finish(y, 3));
    const InstantiatedGraph made = network.instantiate({2, false});
    return count(made, [](const Graph& graph, const Node& node) {
             return node.op == Op::MaxPool && graph.node(graph.value(node.inputs[0]).node).op == Op::Conv;
           }) == 1;
  };
  CHECK(first_before_pool([](NetworkMaker& m, int32_t x) { return m.node("Relu", {x}); }));
  CHECK(!first_before_pool([](NetworkMaker& m, int32_t x) {
    return m.node("LeakyRelu", {x}, with([](Attributes& a) { a.alpha = -0.5; }));
  }));
  CHECK(!first_before_pool([](NetworkMaker& m, int32_t x) {
    const int32_t y = m.node("Relu", {x});
    return m.node("Mul", {y, m.node("Add", {y, y})});
  }));
  CHECK(!first_before_pool([](NetworkMaker& m, int32_t x) {
    return m.node("Add", {x, m.parameter("map", {1, 3, 4, 4})});
  }));
  CHECK(!first_before_pool([](NetworkMaker& m, int32_t x) {
    return m.node("Mul", {x, m.parameter("scale", {1, 3, 1, 1})});
  }));
}

TEST(errors_name_the_node) {
  try {
    Network network(around([](NetworkMaker& m, int32_t h) { return m.node("Softmax", {h}, along(0)); }));
    CHECK(false);
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("node 2 (Softmax)") != std::string::npos);
  }
}

}  // namespace palimpsest::check
