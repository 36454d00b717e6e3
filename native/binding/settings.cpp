// Settings of a device are read at once and changed by a step of its queue.
#include "binding/settings.h"

#include "binding/arguments.h"
#include "binding/failure.h"
#include "binding/step_queue.h"
#include "binding/task.h"

namespace palimpsest {

namespace {

// (device): { threads, instructionSet, instructionSets, memoryLimit }, the last null where there is none.
Napi::Value device_settings(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const Backend& backend = StepQueue::of_device(string(info[0], "device")).backend();
    const DeviceSettings settings = backend.settings();
    const Napi::Array sets = Napi::Array::New(env);
    for (const std::string& set : backend.instruction_sets()) sets.Set(sets.Length(), set);
    const Napi::Object made = Napi::Object::New(env);
    made.Set("threads", settings.threads);
    made.Set("instructionSet", settings.instruction_set);
    made.Set("instructionSets", sets);
    const size_t limit = backend.memory_use().limit;
    made.Set("memoryLimit", limit == 0 ? env.Null() : Napi::Number::New(env, static_cast<double>(limit)));
    return made;
  });
}

// (device, { threads, instructionSet, memoryLimit }): a step, so that what was queued before runs as it was asked for.
Napi::Value configure(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    StepQueue& queue = StepQueue::of_device(string(info[0], "device"));
    const Napi::Object from = object(info[1], "options");
    const Napi::Value threads = from.Get("threads"), set = from.Get("instructionSet"), limit = from.Get("memoryLimit");
    DeviceSettings wanted;
    if (!threads.IsUndefined()) wanted.threads = static_cast<int>(whole_number(threads, "threads", 1, 1024));
    if (!set.IsUndefined()) wanted.instruction_set = string(set, "instructionSet");
    constexpr int64_t most = int64_t{1} << 52;
    int64_t bytes = -1;
    if (!limit.IsUndefined()) bytes = whole_number(limit, "memoryLimit", 0, most);
    return start_task(env, queue,
                      [&queue, wanted, bytes] {
                        queue.backend().configure(wanted);
                        if (bytes >= 0) queue.backend().limit_memory(static_cast<size_t>(bytes));
                      })
        .promise;
  });
}

// (device, from now on): what the engine holds, the most it held, what is free. The peak starts again where asked for.
Napi::Value memory_use(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    StepQueue& queue = StepQueue::of_device(string(info[0], "device"));
    const bool restart = boolean(info[1], "restart");
    return start_task(
               env, queue,
               [&queue, restart] {
                 const MemoryUse use = queue.backend().memory_use();
                 if (restart) queue.backend().reset_peak();
                 return use;
               },
               [](Napi::Env of, const MemoryUse& use) {
                 const Napi::Object made = Napi::Object::New(of);
                 made.Set("held", static_cast<double>(use.held));
                 made.Set("peak", static_cast<double>(use.peak));
                 made.Set("free", static_cast<double>(use.free));
                 made.Set("limit", static_cast<double>(use.limit));
                 return made;
               })
        .promise;
  });
}

}  // namespace

void init_settings(Napi::Env env, Napi::Object exports) {
  exports.Set("deviceSettings", Napi::Function::New(env, device_settings, "deviceSettings"));
  exports.Set("configure", Napi::Function::New(env, configure, "configure"));
  exports.Set("memoryUse", Napi::Function::New(env, memory_use, "memoryUse"));
}

}  // namespace palimpsest
