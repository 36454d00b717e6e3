// The addon's entry: what lib/native.ts finds.
#include <napi.h>

#include "binding/devices.h"
#include "binding/environment.h"
#include "binding/forecast_handle.h"
#include "binding/linearization_handle.h"
#include "binding/low_rank_handle.h"
#include "binding/network_handle.h"
#include "binding/privacy.h"
#include "binding/program_handle.h"
#include "binding/ridge_handle.h"
#include "binding/rows_handle.h"
#include "binding/settings.h"
#include "binding/vector_handle.h"

namespace palimpsest {

namespace {

Napi::Value version(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), "0.1.0"); }

Napi::Value set_error_class(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    if (!info[0].IsFunction()) refuse("a class", "errorClass", info[0]);
    Environment::of(info.Env()).error_class() = Napi::Persistent(info[0].As<Napi::Function>());
    return info.Env().Undefined();
  });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  Environment::install(env);
  exports.Set("version", Napi::Function::New(env, version, "version"));
  exports.Set("setErrorClass", Napi::Function::New(env, set_error_class, "setErrorClass"));
  init_devices(env, exports);
  init_settings(env, exports);
  NetworkHandle::init(env, exports);
  VectorHandle::init(env, exports);
  RowsHandle::init(env, exports);
  ProgramHandle::init(env, exports);
  LinearizationHandle::init(env, exports);
  ForecastHandle::init(env, exports);
  LowRankHandle::init(env, exports);
  RidgeHandle::init(env, exports);
  init_privacy(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(palimpsest, init)

}  // namespace palimpsest
