// Program: a product of a network on batches of one size.
#pragma once

#include <napi.h>

#include "binding/device_program.h"
#include "binding/handle.h"
#include "binding/vector_handle.h"

namespace palimpsest {

// A program and the stagings of its calls.
struct StagedProgram {
  std::shared_ptr<DeviceProgram> program;
  std::shared_ptr<StagingPool> pool = std::make_shared<StagingPool>();
};

class ProgramHandle : public Handle<ProgramHandle, StagedProgram> {
 public:
  static constexpr napi_type_tag tag = {0x70616c696d707365, 0x0000000000000004};
  static constexpr const char* name = "Program";
  static void init(Napi::Env env, Napi::Object exports);

  // Made by createProgram alone.
  explicit ProgramHandle(const Napi::CallbackInfo& info);

 private:
  Napi::Value batch(const Napi::CallbackInfo& info);
  Napi::Value dtype(const Napi::CallbackInfo& info);
  Napi::Value quantity(const Napi::CallbackInfo& info);
  Napi::Value output_shapes(const Napi::CallbackInfo& info);
  Napi::Value arena_bytes(const Napi::CallbackInfo& info);
  Napi::Value buffer_bytes(const Napi::CallbackInfo& info);
  Napi::Value constant_bytes(const Napi::CallbackInfo& info);
  Napi::Value flops(const Napi::CallbackInfo& info);
  Napi::Value bytes(const Napi::CallbackInfo& info);
  Napi::Value steps(const Napi::CallbackInfo& info);
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value hold_batch(const Napi::CallbackInfo& info);
  Napi::Value apply(const Napi::CallbackInfo& info);

  using StepMethod = void (DeviceProgram::*)(Staging&, const VectorsOfCall&);
  Napi::Value start(const Napi::CallbackInfo& info, StepMethod method, bool inputs, bool results);
};

}  // namespace palimpsest
