// Vector: a parameter-space vector whose arithmetic is queued steps.
#pragma once

#include <napi.h>

#include "binding/device_vector.h"
#include "binding/handle.h"
#include "binding/task.h"

namespace palimpsest {

class VectorHandle : public Handle<VectorHandle, DeviceVector> {
 public:
  static constexpr napi_type_tag tag = {0x70616c696d707365, 0x0000000000000003};
  static constexpr const char* name = "Vector";
  static void init(Napi::Env env, Napi::Object exports);

  explicit VectorHandle(const Napi::CallbackInfo& info);

  // The last queued step that writes this vector: what a synchronous read waits for.
  void written_by(Ticket ticket) { last_write_ = ticket; }

 private:
  Napi::Value device(const Napi::CallbackInfo& info);
  Napi::Value dtype(const Napi::CallbackInfo& info);
  Napi::Value layout(const Napi::CallbackInfo& info);
  Napi::Value bytes(const Napi::CallbackInfo& info);
  Napi::Value get(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value set(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  Napi::Value fill(const Napi::CallbackInfo& info);
  Napi::Value copy_from(const Napi::CallbackInfo& info);
  Napi::Value dot(const Napi::CallbackInfo& info);
  Napi::Value axpy(const Napi::CallbackInfo& info);
  Napi::Value scale(const Napi::CallbackInfo& info);
  Napi::Value add_product(const Napi::CallbackInfo& info);
  Napi::Value sgd_step(const Napi::CallbackInfo& info);

  // A parameter of the layout by name.
  const ParameterEntry& entry(const Napi::Value& value) const;
  // Another vector of this layout and device; of this type too where `typed`.
  std::shared_ptr<DeviceVector> operand(const Napi::Value& value, const std::string& argument,
                                        bool typed = false) const;
  std::vector<StagedRange> initial_values(const Napi::Value& values) const;

  template <class Work>
  Napi::Value start_write(Napi::Env env, Work work) {
    const Started started = start_task(env, held()->queue(), std::move(work));
    last_write_ = started.ticket;
    return started.promise;
  }

  Ticket last_write_ = 0;
};

}  // namespace palimpsest
