// devices(): each device with what it is, or why it is not there.
#include "binding/devices.h"

#include "binding/failure.h"
#include "binding/step_queue.h"
#include "core/error.h"

namespace palimpsest {

namespace {

Napi::Value devices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const Napi::Array list = Napi::Array::New(env);
    for (const char* name : {"cpu"}) {
      const Napi::Object device = Napi::Object::New(env);
      device.Set("name", name);
      try {
        device.Set("description", StepQueue::of_device(name).backend().description());
        device.Set("available", true);
      } catch (const Error& error) {
        device.Set("description", error.what());
        device.Set("available", false);
      }
      list.Set(list.Length(), device);
    }
    return list;
  });
}

}  // namespace

void init_devices(Napi::Env env, Napi::Object exports) {
  exports.Set("devices", Napi::Function::New(env, devices, "devices"));
}

}  // namespace palimpsest
