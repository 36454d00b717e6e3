// Ridge: the closed form of a last linear layer, from sums over rows that rows can be taken out of.
#pragma once

#include <napi.h>

#include <memory>

#include "binding/handle.h"
#include "binding/step_queue.h"
#include "unlearn/ridge.h"

namespace palimpsest {

struct RidgeState {
  StepQueue& queue;
  RidgeStatistics statistics;
  std::unique_ptr<RidgeSolver> solver;  // of the rows at the last solve

  RidgeState(StepQueue& q, RidgeStatistics s) : queue(q), statistics(std::move(s)) {}
};

class RidgeHandle : public Handle<RidgeHandle, RidgeState> {
 public:
  static constexpr napi_type_tag tag = {0x70616c696d707365, 0x0000000000000012};
  static constexpr const char* name = "Ridge";
  static void init(Napi::Env env, Napi::Object exports);

  explicit RidgeHandle(const Napi::CallbackInfo& info);

 private:
  Napi::Value add(const Napi::CallbackInfo& info);
  Napi::Value subtract(const Napi::CallbackInfo& info);
  Napi::Value solve(const Napi::CallbackInfo& info);
  Napi::Value certify(const Napi::CallbackInfo& info);
  Napi::Value sample(const Napi::CallbackInfo& info);

  Napi::Value update(const Napi::CallbackInfo& info, bool add);
};

}  // namespace palimpsest
