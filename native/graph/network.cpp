// A network as it was described, checked once and instantiated for a batch size.
#include "graph/network.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "graph/pool_order.h"
#include "ops/table.h"

namespace palimpsest {

namespace {

std::string node_name(const NodeDescription& node, size_t index) {
  return "node " + std::to_string(index) + " (" + node.op + ")";
}

// -k stands for k times the batch size.
void bind_batch(Dims& dims, int64_t batch) {
  for (int64_t& d : dims) {
    if (d >= 0) continue;
    if (d < -(std::numeric_limits<int64_t>::max() / 16 / batch)) {
      throw Error(ErrorCode::shape, "expected a tensor that can be addressed, got dimensions " + to_string(dims));
    }
    d = -d * batch;
  }
}

// Builds one graph from a description: value ids of the description to value ids of the graph.
class Instantiator {
 public:
  Instantiator(const Network& network, const Instantiation& how)
      : network_(network), description_(network.description()), how_(how), result_{Graph(how.batch),
                                                                                   none,
                                                                                   none,
                                                                                   {},
                                                                                   {},
                                                                                   {}} {}

  InstantiatedGraph run() {
    int32_t largest = description_.output;
    for (const LeafDescription& leaf : description_.leaves) largest = std::max(largest, leaf.id);
    for (const NodeDescription& node : description_.nodes) {
      for (int32_t id : node.outputs) largest = std::max(largest, id);
    }
    if (largest > (1 << 24)) throw Error(ErrorCode::model_format, "expected value ids below 2^24");
    ids_.assign(static_cast<size_t>(largest) + 1, none);
    add_leaves();
    for (const OrderedNode& ordered : pools_first(description_, how_.read)) add_node(ordered.node, ordered.index);
    result_.logits = find(description_.output, "the output");
    result_.values = std::move(ids_);
    return std::move(result_);
  }

 private:
  void define(int32_t id, ValueId value) {
    if (id < 0 || ids_[static_cast<size_t>(id)] != none) {
      throw Error(ErrorCode::model_format,
                  "expected each value to be defined once, got id " + std::to_string(id) + " again");
    }
    ids_[static_cast<size_t>(id)] = value;
  }

  ValueId find(int32_t id, const std::string& where) const {
    if (id < 0 || id >= static_cast<int32_t>(ids_.size()) || ids_[static_cast<size_t>(id)] == none) {
      throw Error(ErrorCode::model_format,
                  where + " reads value " + std::to_string(id) + ", which nothing computes before it");
    }
    return ids_[static_cast<size_t>(id)];
  }

  void add_leaves() {
    Dims input = {how_.batch};
    input.insert(input.end(), description_.input_shape.begin(), description_.input_shape.end());
    int32_t parameter = 0, constant = 0;
    for (const LeafDescription& leaf : description_.leaves) {
      switch (leaf.source) {
        case Source::input: define(leaf.id, result_.input = result_.graph.add_input(input_x, input)); break;
        case Source::parameter:
          result_.parameters.push_back(result_.graph.add_parameter(parameter++, leaf.dims));
          define(leaf.id, result_.parameters.back());
          break;
        case Source::constant: define(leaf.id, result_.graph.add_constant(constant++, leaf.dims)); break;
        default: throw Error(ErrorCode::model_format, "expected leaves that are input, parameter or constant");
      }
    }
  }

  void add_node(const NodeDescription& node, size_t index) {
    const std::string where = node_name(node, index);
    std::vector<ValueId> inputs;
    for (int32_t id : node.inputs) inputs.push_back(find(id, where));
    Attributes attributes = node.attributes;
    try {
      bind_batch(attributes.dims, how_.batch);
      if (node.op == "BatchNormalization") {
        if (node.outputs.size() != 1) throw Error(ErrorCode::model_format, "expected one output");
        define(node.outputs[0], batch_normalization(inputs, attributes));
        return;
      }
      const Op op = op_named(node.op);
      const ValueId first = result_.graph.append(op, inputs, attributes);
      const Node& made = result_.graph.node(result_.graph.value(first).node);
      if (node.outputs.empty() || node.outputs.size() > made.outputs.size()) {
        throw Error(ErrorCode::model_format, "expected 1 to " + std::to_string(made.outputs.size()) + " outputs");
      }
      for (size_t i = 0; i < node.outputs.size(); ++i) {
        if (node.outputs[i] >= 0) define(node.outputs[i], made.outputs[i]);
      }
      // At batch size 1 the examples' axis cannot be told from other axes of size 1; the constructor checks larger
      // ones.
      if (how_.batch > 1 && !how_.training && result_.graph.value(first).batch.axis == BatchAxis::mixed) {
        throw Error(ErrorCode::unsupported,
                    "it mixes the examples of a batch; a network must treat each example alone");
      }
    } catch (const Error& error) {
      throw Error(error.code(), where + ": " + error.what());
    }
  }

  ValueId per_channel(ValueId v, const Dims& x) {
    Dims dims(x.size(), 1);
    dims[1] = x[1];
    return result_.graph.reshape(v, dims);
  }

  // y = (x - mean) (scale / sqrt(var + epsilon)) + bias; in training mode with the batch's mean and variance.
  ValueId batch_normalization(const std::vector<ValueId>& in, const Attributes& attributes) {
    Graph& graph = result_.graph;
    if (in.size() != 5) throw Error(ErrorCode::shape, "expected inputs x, scale, bias, mean, var");
    const Dims x = graph.dims(in[0]);
    if (x.size() < 2) throw Error(ErrorCode::shape, "expected x of rank 2 or more, got " + to_string(x));
    for (size_t i = 1; i < 5; ++i) {
      if (graph.dims(in[i]) != Dims{x[1]}) {
        throw Error(ErrorCode::shape, "expected scale, bias, mean and var of shape [" + std::to_string(x[1]) +
                                          "], got " + to_string(graph.dims(in[i])));
      }
    }
    if (how_.training) return batch_normalization_training(in, attributes);
    Attributes shift;
    shift.beta = attributes.epsilon;
    Attributes power;
    power.alpha = -0.5;
    const ValueId rstd = graph.append(Op::Pow, {graph.append(Op::Affine, {in[4]}, shift)}, power);
    const ValueId centred = graph.append(Op::Sub, {in[0], per_channel(in[3], x)});
    const ValueId scaled = graph.mul(centred, per_channel(graph.mul(in[1], rstd), x));
    return graph.add(scaled, per_channel(in[2], x));
  }

  ValueId batch_normalization_training(const std::vector<ValueId>& in, const Attributes& attributes) {
    Graph& graph = result_.graph;
    const Dims x = graph.dims(in[0]);
    ValueId activations = in[0];
    const bool folded = x.size() == 3 || x.size() > 4;  // [N, C, L] as [N, C, L, 1]
    if (folded) activations = graph.reshape(activations, {x[0], x[1], element_count(x) / (x[0] * x[1]), 1});
    ValueId y = graph.append(Op::BatchNormalizationTraining, {activations}, attributes);
    const Value &mean = graph.value(in[3]), &var = graph.value(in[4]);
    if (mean.source != Source::constant || var.source != Source::constant) {
      throw Error(ErrorCode::unsupported, "expected running statistics that are stored in the model");
    }
    result_.statistics.push_back(
        {graph.sibling(y, 1), graph.sibling(y, 2), mean.index, var.index, attributes.epsilon, element_count(x) / x[1]});
    if (folded) y = graph.reshape(y, x);
    return graph.add(graph.mul(y, per_channel(in[1], x)), per_channel(in[2], x));
  }

  const Network& network_;
  const NetworkDescription& description_;
  const Instantiation how_;
  InstantiatedGraph result_;
  std::vector<ValueId> ids_;
};

std::vector<std::pair<std::string, Dims>> parameter_list(const NetworkDescription& description) {
  std::vector<std::pair<std::string, Dims>> list;
  for (const LeafDescription& leaf : description.leaves) {
    if (leaf.source == Source::parameter) list.emplace_back(leaf.name, leaf.dims);
  }
  return list;
}

}  // namespace

Network::Network(NetworkDescription description)
    : description_(std::move(description)), layout_(parameter_list(description_)) {
  int inputs = 0;
  for (LeafDescription& leaf : description_.leaves) {
    if (leaf.source == Source::input) ++inputs;
    if (leaf.source != Source::constant) continue;
    if (static_cast<int64_t>(leaf.data.size()) != element_count(leaf.dims)) {
      throw Error(ErrorCode::model_format, "expected " + std::to_string(element_count(leaf.dims)) +
                                               " values for constant '" + leaf.name + "', got " +
                                               std::to_string(leaf.data.size()));
    }
    constants_.push_back({leaf.name, leaf.dims, std::move(leaf.data)});
    leaf.data.clear();
  }
  if (inputs != 1) throw Error(ErrorCode::model_format, "expected one input, got " + std::to_string(inputs));
  if (description_.classes < 1) {
    throw Error(ErrorCode::shape, "expected one class or more, got " + std::to_string(description_.classes));
  }
  // A prime that divides no other size: [N, 6] seen as [6, N] keeps the examples apart for N = 2 and 3 alone.
  for (int64_t batch : {2, 3, 1009}) {
    const InstantiatedGraph made = instantiate({batch, false});
    const Dims logits = made.graph.dims(made.logits);
    const BatchAxis where = made.graph.value(made.logits).batch;
    if (made.graph.value(made.logits).is_index) {
      throw Error(ErrorCode::model_format, "expected an output of values, got positions of maxima");
    }
    if (logits != Dims{batch, description_.classes} || where != BatchAxis{0, 1, 1}) {
      throw Error(ErrorCode::shape, "expected an output of shape [N, " + std::to_string(description_.classes) +
                                        "] with one row an example, got " + to_string(logits) +
                                        " at N = " + std::to_string(batch));
    }
  }
}

void Network::set_constant(int32_t index, std::vector<float> data) {
  if (index < 0 || static_cast<size_t>(index) >= constants_.size()) {
    throw Error(ErrorCode::invalid_argument, "expected a constant from 0 to " + std::to_string(constants_.size()) +
                                                 " (exclusive), got " + std::to_string(index));
  }
  Constant& constant = constants_[static_cast<size_t>(index)];
  if (data.size() != constant.data.size()) {
    throw Error(ErrorCode::shape, "expected " + std::to_string(constant.data.size()) + " values for '" + constant.name +
                                      "', got " + std::to_string(data.size()));
  }
  constant.data = std::move(data);
  ++constants_version_;
}

InstantiatedGraph Network::instantiate(const Instantiation& how) const {
  if (how.batch < 1)
    throw Error(ErrorCode::invalid_argument, "expected a batch size of 1 or more, got " + std::to_string(how.batch));
  return Instantiator(*this, how).run();
}

}  // namespace palimpsest
