// devices(): the CPU; probeCuda(): what of CUDA is on this machine, or why it is not there.
#include "binding/devices.h"

#include "backend/cuda.h"
#include "binding/failure.h"
#include "binding/step_queue.h"
#include "core/error.h"

namespace palimpsest {

namespace {

// A device that is open or can be opened in this process: its description.
Napi::Value describe_device(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const std::string name = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "";
    return Napi::String::New(env, StepQueue::of_device(name).backend().description());
  });
}

Napi::Object device_object(Napi::Env env, const CudaDevice& device) {
  const Napi::Object object = Napi::Object::New(env);
  object.Set("ordinal", device.ordinal);
  object.Set("name", device.name);
  object.Set("capability", device.capability);
  object.Set("totalBytes", static_cast<double>(device.total_bytes));
  object.Set("freeBytes", static_cast<double>(device.free_bytes));
  object.Set("unusable", device.unusable);
  return object;
}

Napi::Object library_object(Napi::Env env, const CudaLibrary& library) {
  const Napi::Object object = Napi::Object::New(env);
  object.Set("name", library.name);
  object.Set("path", library.path);
  object.Set("version", library.version);
  object.Set("reason", library.reason);
  return object;
}

// Asks the driver: lib/devices.ts does it in a child process, which a driver that is broken may take down.
Napi::Value probe(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const CudaReport report = probe_cuda();
    const Napi::Object object = Napi::Object::New(env);
    object.Set("built", report.built);
    object.Set("architectures", report.architectures);
    object.Set("driver", report.driver);
    object.Set("runtime", report.runtime);
    object.Set("reason", report.reason);
    object.Set("cure", report.cure);
    const Napi::Array devices = Napi::Array::New(env), libraries = Napi::Array::New(env);
    for (const CudaDevice& device : report.devices) devices.Set(devices.Length(), device_object(env, device));
    for (const CudaLibrary& library : report.libraries) libraries.Set(libraries.Length(), library_object(env, library));
    object.Set("devices", devices);
    object.Set("libraries", libraries);
    return object;
  });
}

}  // namespace

void init_devices(Napi::Env env, Napi::Object exports) {
  exports.Set("cudaBuilt", Napi::Boolean::New(env, cuda_built()));
  exports.Set("describeDevice", Napi::Function::New(env, describe_device, "describeDevice"));
  exports.Set("probeCuda", Napi::Function::New(env, probe, "probeCuda"));
}

}  // namespace palimpsest
