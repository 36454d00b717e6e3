// A network as it was described: leaves, nodes and logits with the batch size left open; instantiated for a batch size.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/parameter_layout.h"
#include "ops/graph.h"

namespace palimpsest {

// A dimension -k stands for k times the batch size.
struct LeafDescription {
  Source source = Source::computed;  // input, parameter or constant
  int32_t id = 0;
  std::string name;
  Dims dims;
  std::vector<float> data;  // constants
};

struct NodeDescription {
  std::string op;
  std::vector<int32_t> inputs, outputs;
  Attributes attributes;
};

struct NetworkDescription {
  Dims input_shape;  // of one example
  int64_t classes = 0;
  std::vector<LeafDescription> leaves;
  std::vector<NodeDescription> nodes;
  int32_t output = 0;
};

struct Constant {
  std::string name;
  Dims dims;
  std::vector<float> data;
};

// How a graph is made from the description.
struct Instantiation {
  int64_t batch = 1;
  bool training = false;           // batch normalisation with the batch's statistics
  std::vector<int32_t> read = {};  // values of the description that must keep what they mean there
};

struct InstantiatedGraph {
  Graph graph;
  ValueId input = none, logits = none;
  std::vector<ValueId> parameters;  // by index in the layout; none where a parameter is not used
  // Training mode: for each BatchNormalization row its batch mean and biased variance values, and whose constants they
  // update.
  struct Statistics {
    ValueId mean, rstd;
    int32_t mean_constant, var_constant;
    double epsilon;
    int64_t rows;  // elements averaged per channel
  };
  std::vector<Statistics> statistics;
  std::vector<ValueId> values;  // by id in the description; none where it has no such value
};

class Network {
 public:
  // Checks the whole description (at several batch sizes): ids, arity, shapes, that no node mixes examples, [N, K]
  // logits.
  explicit Network(NetworkDescription description);

  const NetworkDescription& description() const { return description_; }
  const ParameterLayout& layout() const { return layout_; }
  const std::vector<Constant>& constants() const { return constants_; }
  // Running statistics are constants that training may change; the size must agree.
  void set_constant(int32_t index, std::vector<float> data);
  uint64_t constants_version() const { return constants_version_; }

  InstantiatedGraph instantiate(const Instantiation& how) const;

 private:
  NetworkDescription description_;
  ParameterLayout layout_;
  std::vector<Constant> constants_;
  uint64_t constants_version_ = 0;
};

}  // namespace palimpsest
