// Network: a checked network description on a device, for programs and vectors to be made of.
#pragma once

#include <napi.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "binding/handle.h"
#include "binding/step_queue.h"
#include "graph/network.h"

namespace palimpsest {

// A network whose constants only steps of its queue read and write.
struct PlacedNetwork {
  Network network;
  std::shared_ptr<const ParameterLayout> layout;
  StepQueue& queue;
  std::optional<std::vector<std::string>> without_quick_squares;  // names, once they were asked for

  PlacedNetwork(NetworkDescription description, StepQueue& of);
};

class NetworkHandle : public Handle<NetworkHandle, PlacedNetwork> {
 public:
  static constexpr napi_type_tag tag = {0x70616c696d707365, 0x0000000000000001};
  static constexpr const char* name = "Network";
  static void init(Napi::Env env, Napi::Object exports);

  explicit NetworkHandle(const Napi::CallbackInfo& info);

 private:
  Napi::Value device(const Napi::CallbackInfo& info);
  Napi::Value input_shape(const Napi::CallbackInfo& info);
  Napi::Value classes(const Napi::CallbackInfo& info);
  Napi::Value layout(const Napi::CallbackInfo& info);
  Napi::Value vector_length(const Napi::CallbackInfo& info);
  Napi::Value constants(const Napi::CallbackInfo& info);
  Napi::Value get_constant(const Napi::CallbackInfo& info);
  Napi::Value set_constant(const Napi::CallbackInfo& info);
  Napi::Value parameters_without_quick_squares(const Napi::CallbackInfo& info);

  Napi::Value linearized(const Napi::CallbackInfo& info);

  int32_t constant_index(const Napi::Value& value) const;
};

// [{ name, shape, offset, size }]
Napi::Value layout_array(Napi::Env env, const ParameterLayout& layout);

}  // namespace palimpsest
