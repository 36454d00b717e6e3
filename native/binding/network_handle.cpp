// Network's constructor, properties and the steps on its constants.
#include "binding/network_handle.h"

#include <utility>
#include <vector>

#include "binding/network_description.h"
#include "binding/task.h"
#include "curvature/linearized.h"
#include "curvature/products.h"

namespace palimpsest {

PlacedNetwork::PlacedNetwork(NetworkDescription description, StepQueue& of)
    : network(std::move(description)), layout(std::make_shared<const ParameterLayout>(network.layout())), queue(of) {}

Napi::Value layout_array(Napi::Env env, const ParameterLayout& layout) {
  const Napi::Array list = Napi::Array::New(env, layout.entries().size());
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    const ParameterEntry& entry = layout.entries()[i];
    const Napi::Object item = Napi::Object::New(env);
    item.Set("name", entry.name);
    item.Set("shape", shape_array(env, entry.dims));
    item.Set("offset", static_cast<double>(entry.offset));
    item.Set("size", static_cast<double>(entry.size));
    list.Set(static_cast<uint32_t>(i), item);
  }
  return list;
}

void NetworkHandle::init(Napi::Env env, Napi::Object exports) {
  exports.Set(
      name,
      define(env, {
                      getter_named<&NetworkHandle::device>("device"),
                      getter_named<&NetworkHandle::input_shape>("inputShape"),
                      getter_named<&NetworkHandle::classes>("classes"),
                      getter_named<&NetworkHandle::layout>("layout"),
                      getter_named<&NetworkHandle::vector_length>("vectorLength"),
                      getter_named<&NetworkHandle::constants>("constants"),
                      method_named<&NetworkHandle::get_constant>("getConstant"),
                      method_named<&NetworkHandle::set_constant>("setConstant"),
                      method_named<&NetworkHandle::linearized>("linearized"),
                      method_named<&NetworkHandle::parameters_without_quick_squares>("parametersWithoutQuickSquares"),
                  }));
}

NetworkHandle::NetworkHandle(const Napi::CallbackInfo& info) : Handle(info) {
  guarded(info.Env(), [&] {
    StepQueue& queue = StepQueue::of_device(string(info[1], "device"));
    auto placed = queue.share(std::make_unique<PlacedNetwork>(read_network_description(info[0]), queue));
    int64_t values = 0;
    for (const Constant& constant : placed->network.constants()) values += static_cast<int64_t>(constant.data.size());
    hold(info.Env(), std::move(placed), values * static_cast<int64_t>(sizeof(float)));
  });
}

Napi::Value NetworkHandle::device(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), held()->queue.device());
}

Napi::Value NetworkHandle::input_shape(const Napi::CallbackInfo& info) {
  return shape_array(info.Env(), held()->network.description().input_shape);
}

Napi::Value NetworkHandle::classes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(held()->network.description().classes));
}

Napi::Value NetworkHandle::layout(const Napi::CallbackInfo& info) { return layout_array(info.Env(), *held()->layout); }

Napi::Value NetworkHandle::vector_length(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(held()->layout->length()));
}

Napi::Value NetworkHandle::constants(const Napi::CallbackInfo& info) {
  const Napi::Array list = Napi::Array::New(info.Env());
  for (const Constant& constant : held()->network.constants()) {
    const Napi::Object item = Napi::Object::New(info.Env());
    item.Set("name", constant.name);
    item.Set("shape", shape_array(info.Env(), constant.dims));
    list.Set(list.Length(), item);
  }
  return list;
}

int32_t NetworkHandle::constant_index(const Napi::Value& value) const {
  const int64_t count = static_cast<int64_t>(held()->network.constants().size());
  return static_cast<int32_t>(whole_number(value, "index", 0, count - 1));
}

Napi::Value NetworkHandle::get_constant(const Napi::CallbackInfo& info) {
  const size_t index = static_cast<size_t>(constant_index(info[0]));
  return start_task(
             info.Env(), held()->queue, [placed = held(), index] { return placed->network.constants()[index].data; },
             [](Napi::Env env, const std::vector<float>& data) {
               return float_array(env, DType::f32, data.data(), data.size());
             })
      .promise;
}

Napi::Value NetworkHandle::set_constant(const Napi::CallbackInfo& info) {
  const int32_t index = constant_index(info[0]);
  // Sizes never change, so that they may be read here while a step runs.
  const Constant& constant = held()->network.constants()[static_cast<size_t>(index)];
  const int64_t count = element_count(constant.dims);
  std::vector<float> data = copy_constant(info[1], "data", count);
  return start_task(info.Env(), held()->queue,
                    [placed = held(), index, data = std::move(data)]() mutable {
                      placed->network.set_constant(index, std::move(data));
                    })
      .promise;
}

Napi::Value NetworkHandle::parameters_without_quick_squares(const Napi::CallbackInfo& info) {
  return start_task(
             info.Env(), held()->queue,
             [placed = held()] {
               if (placed->without_quick_squares) return *placed->without_quick_squares;
               std::vector<std::string> names;
               for (const int32_t i : palimpsest::parameters_without_quick_squares(placed->network)) {
                 names.push_back(placed->layout->entries()[static_cast<size_t>(i)].name);
               }
               placed->without_quick_squares = names;
               return names;
             },
             [](Napi::Env env, const std::vector<std::string>& names) -> Napi::Value {
               const Napi::Array list = Napi::Array::New(env);
               for (const std::string& parameter : names) list.Set(list.Length(), Napi::String::New(env, parameter));
               return list;
             })
      .promise;
}

// (names of the parameters that move): the description of f(x) + J(x) w.
Napi::Value NetworkHandle::linearized(const Napi::CallbackInfo& info) {
  const ParameterLayout& layout = *held()->layout;
  std::vector<bool> chosen(layout.entries().size(), false);
  const Napi::Array names = array(info[0], "parameters");
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const Napi::Value value = names[i];
    const int found = layout.find(string(value, "parameters"));
    if (found < 0) refuse("names of parameters", "parameters", value);
    chosen[static_cast<size_t>(found)] = true;
  }
  return start_task(
             info.Env(), held()->queue,
             [placed = held(), chosen = std::move(chosen)] { return linearized_description(placed->network, chosen); },
             [](Napi::Env env, const NetworkDescription& made) -> Napi::Value {
               return write_network_description(env, made);
             })
      .promise;
}

}  // namespace palimpsest
