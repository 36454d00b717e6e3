// Reads leaves, nodes and attributes; what they mean is checked by Network.
#include "binding/network_description.h"

#include <cmath>
#include <limits>
#include <string>

#include "binding/arguments.h"

namespace palimpsest {

namespace {

constexpr int64_t most = std::numeric_limits<int32_t>::max();

int32_t value_id(const Napi::Value& value, const std::string& name, int64_t least = 0) {
  return static_cast<int32_t>(whole_number(value, name, least, most));
}

std::vector<int32_t> value_ids(const Napi::Value& value, const std::string& name) {
  std::vector<int32_t> ids;
  for (const int64_t id : whole_numbers(value, name)) {
    if (id < -1 || id > most)
      throw Error(ErrorCode::model_format, "expected value ids in '" + name + "', got " + std::to_string(id));
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

std::string item(const std::string& list, uint32_t i) { return list + "[" + std::to_string(i) + "]"; }

LeafDescription read_leaf(const Napi::Value& value, const std::string& name) {
  const Napi::Object leaf = object(value, name);
  const std::string kind = string(leaf.Get("kind"), name + ".kind");
  LeafDescription read;
  read.id = value_id(leaf.Get("id"), name + ".id");
  if (kind == "input") {
    read.source = Source::input;
    return read;
  }
  if (kind != "parameter" && kind != "constant")
    refuse("'input', 'parameter' or 'constant'", name + ".kind", leaf.Get("kind"));
  const Napi::Value called = leaf.Get("name");
  if (kind == "parameter" || !called.IsUndefined()) read.name = string(called, name + ".name");
  read.dims = whole_numbers(leaf.Get("shape"), name + ".shape");
  read.source = kind == "parameter" ? Source::parameter : Source::constant;
  if (read.source == Source::constant) {
    read.data = copy_constant(leaf.Get("data"), name + ".data", element_count(read.dims));
  }
  return read;
}

// Reads the attribute where it is given.
template <class Read, class Target>
void attribute(const Napi::Object& from, const std::string& where, const char* key, Read read, Target& target) {
  const Napi::Value value = from.Get(key);
  if (!value.IsUndefined()) target = read(value, where + "." + key);
}

// Finite or infinite: Clip's bounds may be missing.
double number(const Napi::Value& value, const std::string& name) {
  if (!value.IsNumber() || std::isnan(value.As<Napi::Number>().DoubleValue())) refuse("a number", name, value);
  return value.As<Napi::Number>().DoubleValue();
}

Attributes read_attributes(const Napi::Value& value, const std::string& name) {
  const Napi::Object from = object(value, name);
  Attributes read;
  const auto whole = [](const Napi::Value& given, const std::string& at) {
    return whole_number(given, at, std::numeric_limits<int32_t>::min(), most);
  };
  attribute(from, name, "kernel", whole_numbers, read.kernel);
  attribute(from, name, "strides", whole_numbers, read.strides);
  attribute(from, name, "pads", whole_numbers, read.pads);
  attribute(from, name, "dilations", whole_numbers, read.dilations);
  attribute(from, name, "group", whole, read.group);
  attribute(from, name, "dims", whole_numbers, read.dims);
  attribute(from, name, "axes", whole_numbers, read.axes);
  attribute(from, name, "perm", whole_numbers, read.perm);
  attribute(from, name, "starts", whole_numbers, read.starts);
  attribute(from, name, "steps", whole_numbers, read.steps);
  attribute(from, name, "indices", whole_numbers, read.indices);
  attribute(from, name, "axis", whole, read.axis);
  attribute(from, name, "order", whole, read.order);
  attribute(from, name, "transA", boolean, read.trans_a);
  attribute(from, name, "transB", boolean, read.trans_b);
  attribute(from, name, "countPads", boolean, read.count_pads);
  attribute(from, name, "alpha", number, read.alpha);
  attribute(from, name, "beta", number, read.beta);
  attribute(from, name, "epsilon", finite_number, read.epsilon);
  return read;
}

NodeDescription read_node(const Napi::Value& value, const std::string& name) {
  const Napi::Object node = object(value, name);
  return {string(node.Get("op"), name + ".op"), value_ids(node.Get("inputs"), name + ".inputs"),
          value_ids(node.Get("outputs"), name + ".outputs"),
          read_attributes(node.Get("attributes"), name + ".attributes")};
}

}  // namespace

NetworkDescription read_network_description(const Napi::Value& value) {
  const Napi::Object from = object(value, "description");
  NetworkDescription read;
  read.input_shape = whole_numbers(from.Get("inputShape"), "inputShape");
  read.classes = whole_number(from.Get("classes"), "classes", 1, most);
  read.output = value_id(from.Get("output"), "output");
  const Napi::Array leaves = array(from.Get("leaves"), "leaves"), nodes = array(from.Get("nodes"), "nodes");
  for (uint32_t i = 0; i < leaves.Length(); ++i) {
    const Napi::HandleScope scope(value.Env());
    read.leaves.push_back(read_leaf(leaves[i], item("leaves", i)));
  }
  for (uint32_t i = 0; i < nodes.Length(); ++i) {
    const Napi::HandleScope scope(value.Env());
    read.nodes.push_back(read_node(nodes[i], item("nodes", i)));
  }
  return read;
}

namespace {

Napi::Array number_array(Napi::Env env, const Dims& numbers) {
  const Napi::Array list = Napi::Array::New(env, numbers.size());
  for (size_t i = 0; i < numbers.size(); ++i)
    list.Set(static_cast<uint32_t>(i), Napi::Number::New(env, static_cast<double>(numbers[i])));
  return list;
}

Napi::Array id_array(Napi::Env env, const std::vector<int32_t>& ids) {
  return number_array(env, Dims(ids.begin(), ids.end()));
}

// Attributes that differ from a node's defaults.
Napi::Object write_attributes(Napi::Env env, const Attributes& given) {
  const Attributes plain;
  const Napi::Object out = Napi::Object::New(env);
  const auto list = [&](const char* key, const Dims& value) {
    if (!value.empty()) out.Set(key, number_array(env, value));
  };
  list("kernel", given.kernel);
  list("strides", given.strides);
  list("pads", given.pads);
  list("dilations", given.dilations);
  list("dims", given.dims);
  list("axes", given.axes);
  list("perm", given.perm);
  list("starts", given.starts);
  list("steps", given.steps);
  list("indices", given.indices);
  out.Set("group", static_cast<double>(given.group));
  out.Set("axis", static_cast<double>(given.axis));
  out.Set("order", static_cast<double>(given.order));
  if (given.trans_a) out.Set("transA", true);
  if (given.trans_b) out.Set("transB", true);
  if (given.count_pads) out.Set("countPads", true);
  out.Set("alpha", given.alpha);
  out.Set("beta", given.beta);
  if (given.epsilon != plain.epsilon) out.Set("epsilon", given.epsilon);
  return out;
}

Napi::Object write_leaf(Napi::Env env, const LeafDescription& leaf) {
  const Napi::Object out = Napi::Object::New(env);
  out.Set("id", leaf.id);
  if (leaf.source == Source::input) {
    out.Set("kind", "input");
    return out;
  }
  const bool constant = leaf.source == Source::constant;
  out.Set("kind", constant ? "constant" : leaf.source == Source::tangent ? "tangent" : "parameter");
  if (!constant || !leaf.name.empty()) out.Set("name", leaf.name);
  out.Set("shape", number_array(env, leaf.dims));
  if (constant) out.Set("data", float_array(env, DType::f32, leaf.data.data(), leaf.data.size()));
  return out;
}

}  // namespace

Napi::Object write_network_description(Napi::Env env, const NetworkDescription& description) {
  const Napi::Array leaves = Napi::Array::New(env), nodes = Napi::Array::New(env);
  for (const LeafDescription& leaf : description.leaves) leaves.Set(leaves.Length(), write_leaf(env, leaf));
  for (const NodeDescription& node : description.nodes) {
    const Napi::Object out = Napi::Object::New(env);
    out.Set("op", node.op);
    out.Set("inputs", id_array(env, node.inputs));
    out.Set("outputs", id_array(env, node.outputs));
    out.Set("attributes", write_attributes(env, node.attributes));
    nodes.Set(nodes.Length(), out);
  }
  const Napi::Object out = Napi::Object::New(env);
  out.Set("inputShape", number_array(env, description.input_shape));
  out.Set("classes", static_cast<double>(description.classes));
  out.Set("leaves", leaves);
  out.Set("nodes", nodes);
  out.Set("output", description.output);
  return out;
}

}  // namespace palimpsest
