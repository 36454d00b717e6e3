// Tiny networks whose Jacobians can be written down whole.
#include "tiny_networks.h"

#include "samples.h"

namespace palimpsest::check {

NetworkMaker::NetworkMaker(Dims input_shape) {
  description_.input_shape = std::move(input_shape);
  description_.leaves.push_back({Source::input, 0, "x", {}, {}});
}

int32_t NetworkMaker::parameter(const std::string& name, Dims dims) {
  description_.leaves.push_back({Source::parameter, next_, name, std::move(dims), {}});
  return next_++;
}

int32_t NetworkMaker::constant(const std::string& name, Dims dims, std::vector<float> data) {
  description_.leaves.push_back({Source::constant, next_, name, std::move(dims), std::move(data)});
  return next_++;
}

int32_t NetworkMaker::node(const std::string& op, std::vector<int32_t> inputs, Attributes attributes) {
  description_.nodes.push_back({op, std::move(inputs), {next_}, std::move(attributes)});
  return next_++;
}

int32_t NetworkMaker::linear(int32_t x, const std::string& name, int64_t in, int64_t out) {
  Attributes attributes;
  attributes.trans_b = true;
  const int32_t y = node("MatMul", {x, parameter(name + ".weight", {out, in})}, attributes);
  return node("Add", {y, parameter(name + ".bias", {out})});
}

int32_t NetworkMaker::batch_norm(int32_t x, const std::string& name, int64_t channels) {
  std::vector<float> mean, var;
  for (int64_t c = 0; c < channels; ++c) {
    mean.push_back(0.1f * static_cast<float>(c - 1));
    var.push_back(0.5f + 0.25f * static_cast<float>(c));
  }
  const int32_t scale = parameter(name + ".weight", {channels}), bias = parameter(name + ".bias", {channels});
  const int32_t running_mean = constant(name + ".mean", {channels}, mean),
                running_var = constant(name + ".var", {channels}, var);
  Attributes attributes;
  attributes.epsilon = 1e-3;
  return node("BatchNormalization", {x, scale, bias, running_mean, running_var}, attributes);
}

int32_t NetworkMaker::mean(int32_t x, Dims axes, int64_t count) {
  Attributes attributes;
  attributes.axes = std::move(axes), attributes.alpha = 1.0 / static_cast<double>(count);
  return node("ReduceSum", {x}, attributes);
}

int32_t NetworkMaker::layer_norm(int32_t x, const std::string& name, int64_t axis, int64_t width) {
  Attributes shift, root;
  shift.beta = 1e-2, root.alpha = 0.5;
  const int32_t centred = node("Sub", {x, mean(x, {axis}, width)});
  const int32_t variance = mean(node("Mul", {centred, centred}), {axis}, width);
  const int32_t deviation = node("Pow", {node("Affine", {variance}, shift)}, root);
  const int32_t normal = node("Div", {centred, deviation});
  return node("Add", {node("Mul", {normal, parameter(name + ".weight", {width})}), parameter(name + ".bias", {width})});
}

int32_t NetworkMaker::conv(int32_t x, const std::string& name, Dims weight, Dims strides, Dims pads, int64_t group) {
  Attributes attributes;
  attributes.strides = std::move(strides), attributes.pads = std::move(pads), attributes.group = group;
  return node("Conv", {x, parameter(name + ".weight", std::move(weight))}, attributes);
}

int32_t NetworkMaker::reshape(int32_t x, Dims dims) {
  Attributes attributes;
  attributes.dims = std::move(dims);
  return node("Reshape", {x}, attributes);
}

int32_t NetworkMaker::transpose(int32_t x, Dims perm) {
  Attributes attributes;
  attributes.perm = std::move(perm);
  return node("Transpose", {x}, attributes);
}

int32_t NetworkMaker::slice(int32_t x, Dims starts, Dims dims) {
  Attributes attributes;
  attributes.steps = Dims(starts.size(), 1), attributes.starts = std::move(starts), attributes.dims = std::move(dims);
  return node("Slice", {x}, attributes);
}

NetworkDescription NetworkMaker::finish(int32_t output, int64_t classes) {
  description_.output = output;
  description_.classes = classes;
  return description_;
}

namespace {

Attributes pool(Dims kernel, Dims strides = {}) {
  Attributes attributes;
  attributes.kernel = std::move(kernel), attributes.strides = std::move(strides);
  return attributes;
}

TinyNetwork mlp() {
  NetworkMaker m({5});
  const int32_t h = m.node("Gelu", {m.linear(m.input(), "one", 5, 6)});
  return {"mlp", m.finish(m.linear(h, "two", 6, 3), 3), {}};
}

// Strides, uneven pads, batch normalisation, a max pool and a kink.
TinyNetwork convolutions() {
  NetworkMaker m({2, 7, 6});
  int32_t h = m.conv(m.input(), "conv1", {3, 2, 3, 3}, {2, 1}, {1, 0, 1, 1});  // [3, 4, 5]
  h = m.node("Relu", {m.batch_norm(h, "bn1", 3)});
  h = m.node("MaxPool", {h}, pool({2, 2}, {2, 1}));  // [3, 2, 4]
  const int32_t bias = m.parameter("conv2.bias", {4});
  h = m.node("Add", {m.conv(h, "conv2", {4, 3, 2, 3}), m.reshape(bias, {1, 4, 1, 1})});  // [4, 1, 2]
  return {"convolutions", m.finish(m.linear(m.reshape(m.node("Tanh", {h}), {-1, 8}), "head", 8, 3), 3), {}};
}

TinyNetwork residual() {
  NetworkMaker m({2, 4, 5});
  const int32_t x = m.node("Silu", {m.batch_norm(m.conv(m.input(), "stem", {3, 2, 3, 3}, {}, {1, 1, 1, 1}), "bn0", 3)});
  int32_t h = m.node("Silu", {m.batch_norm(m.conv(x, "conv1", {3, 3, 3, 3}, {}, {1, 1, 1, 1}), "bn1", 3)});
  h = m.batch_norm(m.conv(h, "conv2", {3, 3, 1, 1}), "bn2", 3);
  h = m.node("Silu", {m.node("Add", {h, x})});
  const int32_t pooled = m.reshape(m.mean(h, {2, 3}, 20), {-1, 3});
  return {"residual", m.finish(m.linear(pooled, "head", 3, 4), 4), {}};
}

TinyNetwork depthwise() {
  NetworkMaker m({3, 5, 4});
  int32_t h = m.conv(m.input(), "depthwise", {3, 1, 3, 3}, {}, {1, 1, 1, 1}, 3);
  h = m.node("HardSwish", {m.batch_norm(h, "bn", 3)});
  h = m.node("Mish", {m.conv(h, "pointwise", {4, 3, 1, 1})});
  Attributes average = pool({2, 2}, {2, 2});
  h = m.node("AveragePool", {h}, average);  // [4, 2, 2]
  return {"depthwise", m.finish(m.linear(m.reshape(h, {-1, 16}), "head", 16, 3), 3), {}};
}

// y = tanh(x W) W^T + b
TinyNetwork tied() {
  NetworkMaker m({4});
  const int32_t w = m.parameter("shared", {4, 3});
  const int32_t h = m.node("Tanh", {m.node("MatMul", {m.input(), w})});
  Attributes transposed;
  transposed.trans_b = true;
  const int32_t y = m.node("MatMul", {h, w}, transposed);
  return {"tied weights", m.finish(m.node("Add", {y, m.parameter("bias", {4})}), 4), {"shared"}};
}

TinyNetwork shared_convolution() {
  NetworkMaker m({2, 5, 4});
  const int32_t w = m.parameter("shared", {2, 2, 3, 3});
  Attributes same;
  same.pads = {1, 1, 1, 1};
  int32_t h = m.node("Tanh", {m.node("Conv", {m.input(), w}, same)});
  h = m.node("Tanh", {m.node("Conv", {h, w}, same)});
  return {"shared convolution", m.finish(m.linear(m.reshape(h, {-1, 40}), "head", 40, 2), 2), {"shared"}};
}

// y = x (W * s)^T, s of [O, 1]: weight normalisation's shape
TinyNetwork scaled_weight() {
  NetworkMaker m({4});
  const int32_t w = m.parameter("direction", {5, 4}), s = m.parameter("scale", {5, 1});
  Attributes transposed;
  transposed.trans_b = true;
  const int32_t h = m.node("Tanh", {m.node("MatMul", {m.input(), m.node("Mul", {w, s})}, transposed)});
  return {"scaled weight", m.finish(m.linear(h, "head", 5, 3), 3), {"scale"}};
}

TinyNetwork tokens() {
  NetworkMaker m({4, 5});
  int32_t h = m.layer_norm(m.input(), "norm1", 2, 5);
  h = m.node("GeluTanh", {m.linear(m.reshape(h, {-4, 5}), "one", 5, 4)});  // tokens as rows
  h = m.layer_norm(m.reshape(h, {-1, 4, 4}), "norm2", 2, 4);
  h = m.node("Tanh", {m.linear(h, "two", 4, 3)});
  const int32_t pooled = m.reshape(m.mean(h, {1}, 4), {-1, 3});
  return {"tokens", m.finish(m.linear(pooled, "head", 3, 3), 3), {}};
}

// One block of a vision transformer: class token, positions, two heads, softmax, residual, class token out.
TinyNetwork attention() {
  NetworkMaker m({3, 4});
  Attributes wide;
  wide.dims = {-1, 1, 4};
  Attributes along;
  along.axis = 1;
  const int32_t token = m.node("Expand", {m.parameter("class_token", {1, 1, 4})}, wide);
  int32_t x = m.node("Concat", {token, m.input()}, along);
  x = m.node("Add", {x, m.parameter("positions", {1, 4, 4})});
  const int32_t qkv = m.linear(m.layer_norm(x, "norm", 2, 4), "qkv", 4, 12);             // [N, 4, 12]
  const int32_t split = m.transpose(m.reshape(qkv, {-1, 4, 3, 2, 2}), {2, 0, 3, 1, 4});  // [3, N, heads, T, d]
  std::vector<int32_t> parts;
  for (int64_t i = 0; i < 3; ++i) {
    parts.push_back(m.reshape(m.slice(split, {i, 0, 0, 0, 0}, {1, -1, 2, 4, 2}), {-1, 2, 4, 2}));
  }
  Attributes scores, last;
  scores.trans_b = true, scores.alpha = 0.7, last.axis = 3;
  const int32_t weights = m.node("Softmax", {m.node("MatMul", {parts[0], parts[1]}, scores)}, last);
  const int32_t heads = m.reshape(m.transpose(m.node("MatMul", {weights, parts[2]}), {0, 2, 1, 3}), {-1, 4, 4});
  x = m.node("Add", {x, m.linear(heads, "out", 4, 4)});
  Attributes first;
  first.axis = 1, first.indices = {0};
  const int32_t top = m.reshape(m.node("Gather", {x}, first), {-1, 4});
  return {"attention", m.finish(m.linear(m.layer_norm(top, "norm2", 1, 4), "head", 4, 3), 3), {"class_token"}};
}

TinyNetwork with_unused() {
  NetworkMaker m({3});
  const int32_t idle = m.parameter("idle", {2, 2});
  m.node("Exp", {idle});
  const int32_t h = m.node("Sigmoid", {m.linear(m.input(), "one", 3, 4)});
  m.parameter("never", {3});
  return {"unused parameters", m.finish(m.linear(h, "two", 4, 2), 2), {"idle", "never"}};
}

}  // namespace

std::vector<TinyNetwork> tiny_networks() {
  return {mlp(),           convolutions(), residual(),  depthwise(),  tied(), shared_convolution(),
          scaled_weight(), tokens(),       attention(), with_unused()};
}

}  // namespace palimpsest::check
