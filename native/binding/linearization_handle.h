// Linearization: batches of a network held at one point, and products applied to them.
#pragma once

#include <napi.h>

#include <map>
#include <vector>

#include "binding/device_linearization.h"
#include "binding/handle.h"
#include "binding/vector_handle.h"

namespace palimpsest {

// A linearization and the stagings of its calls.
struct StagedLinearization {
  std::shared_ptr<DeviceLinearization> linearization;
  std::shared_ptr<StagingPool> pool = std::make_shared<StagingPool>();
};

class LinearizationHandle : public Handle<LinearizationHandle, StagedLinearization> {
 public:
  static constexpr napi_type_tag tag = {0x70616c696d707365, 0x0000000000000014};
  static constexpr const char* name = "Linearization";
  static void init(Napi::Env env, Napi::Object exports);

  // Made by createLinearization alone.
  explicit LinearizationHandle(const Napi::CallbackInfo& info);

 private:
  Napi::Value batch(const Napi::CallbackInfo& info);
  Napi::Value slot_bytes(const Napi::CallbackInfo& info);
  Napi::Value shared_bytes(const Napi::CallbackInfo& info);
  Napi::Value bytes(const Napi::CallbackInfo& info);
  Napi::Value hold_batch(const Napi::CallbackInfo& info);
  Napi::Value release(const Napi::CallbackInfo& info);
  Napi::Value jvp(const Napi::CallbackInfo& info);
  Napi::Value vjp(const Napi::CallbackInfo& info);
  Napi::Value ggn_product(const Napi::CallbackInfo& info);
  Napi::Value linear_gradient(const Napi::CallbackInfo& info);

  struct Reads;
  using Product = void (DeviceLinearization::*)(const LinearizedCall&, Staging&);
  Napi::Value start(const Napi::CallbackInfo& info, Product product, const Reads& reads);
  LinearizedCall read_call(const Napi::Value& value, const DeviceLinearization& linearization, const Reads& reads,
                           std::vector<VectorHandle*>& written) const;
  int64_t total_bytes() const;

  std::map<int32_t, int64_t> rows_;  // of each slot that holds a batch, or will once the steps queued so far are done
};

}  // namespace palimpsest
