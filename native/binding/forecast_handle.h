// Forecast: what a program would take, for lib/estimate.ts.
#pragma once

#include <napi.h>

#include "binding/device_forecast.h"
#include "binding/handle.h"

namespace palimpsest {

class ForecastHandle : public Handle<ForecastHandle, DeviceForecast> {
 public:
  static constexpr napi_type_tag tag = {0x70616c696d707365, 0x0000000000000007};
  static constexpr const char* name = "Forecast";
  static void init(Napi::Env env, Napi::Object exports);

  // (network, options of createProgram, parameters)
  explicit ForecastHandle(const Napi::CallbackInfo& info);

 private:
  Napi::Value measure(const Napi::CallbackInfo& info);
};

}  // namespace palimpsest
