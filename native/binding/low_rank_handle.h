// LowRank: a preconditioner from the Jacobian rows of sampled examples, over selected parameters.
#pragma once

#include <napi.h>

#include <memory>
#include <optional>
#include <vector>

#include "binding/handle.h"
#include "binding/selection.h"
#include "curvature/low_rank.h"

namespace palimpsest {

struct LowRankState {
  StepQueue& queue;
  std::shared_ptr<const ParameterLayout> layout;
  Selection selection;
  int64_t rows = 0, sampled = 0;
  std::vector<float> jacobian;  // rows appended so far, until the first factor
  std::optional<LowRankPreconditioner> preconditioner;

  LowRankState(StepQueue& q, std::shared_ptr<const ParameterLayout> l) : queue(q), layout(std::move(l)) {}
};

class LowRankHandle : public Handle<LowRankHandle, LowRankState> {
 public:
  static constexpr napi_type_tag tag = {0x70616c696d707365, 0x0000000000000011};
  static constexpr const char* name = "LowRank";
  static void init(Napi::Env env, Napi::Object exports);

  explicit LowRankHandle(const Napi::CallbackInfo& info);

 private:
  Napi::Value append(const Napi::CallbackInfo& info);
  Napi::Value factor(const Napi::CallbackInfo& info);
  Napi::Value apply_inverse(const Napi::CallbackInfo& info);
};

}  // namespace palimpsest
