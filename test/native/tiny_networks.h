// Tiny networks whose Jacobians can be written down whole: one of each kind that the products must get right.
#pragma once

#include <string>
#include <vector>

#include "graph_run.h"

namespace palimpsest::check {

// Builds a description a row at a time; ids count up.
class NetworkMaker {
 public:
  explicit NetworkMaker(Dims input_shape);

  int32_t input() const { return 0; }
  int32_t parameter(const std::string& name, Dims dims);
  int32_t constant(const std::string& name, Dims dims, std::vector<float> data);
  int32_t node(const std::string& op, std::vector<int32_t> inputs, Attributes attributes = {});

  // Frequent rows.
  int32_t linear(int32_t x, const std::string& name, int64_t in, int64_t out);  // x W^T + b, as Gemm exports
  int32_t batch_norm(int32_t x, const std::string& name, int64_t channels);
  int32_t layer_norm(int32_t x, const std::string& name, int64_t axis, int64_t width);  // the composition of opset 13
  int32_t conv(int32_t x, const std::string& name, Dims weight, Dims strides = {}, Dims pads = {}, int64_t group = 1);
  int32_t reshape(int32_t x, Dims dims);
  int32_t transpose(int32_t x, Dims perm);
  int32_t slice(int32_t x, Dims starts, Dims dims);
  int32_t mean(int32_t x, Dims axes, int64_t count);

  NetworkDescription finish(int32_t output, int64_t classes);
  NetworkDescription& description() { return description_; }

 private:
  int32_t next_ = 1;
  NetworkDescription description_;
};

struct TinyNetwork {
  std::string name;
  NetworkDescription description;
  std::vector<std::string> slow;  // parameters without a quick rule for per-example squares
};

std::vector<TinyNetwork> tiny_networks();

}  // namespace palimpsest::check
