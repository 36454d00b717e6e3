// What the addon keeps for each JavaScript environment (main thread or worker): its pending tasks and its classes.
#pragma once

#include <napi.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include "binding/step_queue.h"

namespace palimpsest {

// A step whose outcome settles a promise on the environment's thread.
class PendingTask : public QueuedStep {
 public:
  virtual void settle(Napi::Env env) = 0;
};

class Environment : public std::enable_shared_from_this<Environment> {
 public:
  // Once for each load of the addon: instance data, the hooks at the environment's end, the channel back.
  static void install(Napi::Env env);
  static Environment& of(Napi::Env env);

  // The environment ends: queued steps are dropped, the running one is waited for, nothing is settled any more.
  void close() noexcept;
  // Throws ERR_ABORTED once closed.
  void require_open() const;

  // Queues a task; the event loop stays alive until it is settled.
  Ticket start(StepQueue& queue, std::unique_ptr<PendingTask> task);
  // Queues a step that settles nothing.
  Ticket post(StepQueue& queue, std::unique_ptr<QueuedStep> step);
  // From the queue's thread: the task has run.
  void finished(std::unique_ptr<PendingTask> task) noexcept;

  Napi::FunctionReference& error_class() { return error_class_; }
  Napi::FunctionReference& program_class() { return program_class_; }
  Napi::FunctionReference& linearization_class() { return linearization_class_; }

 private:
  explicit Environment(Napi::Env env);
  void end() noexcept;
  void open_channel();
  void settle_finished();
  static void on_finished(napi_env env, napi_value callback, void* context, void* data);

  Napi::Env env_;
  napi_threadsafe_function channel_ = nullptr;
  int64_t unsettled_ = 0;
  Napi::FunctionReference error_class_, program_class_, linearization_class_;

  std::mutex mutex_;
  std::deque<std::unique_ptr<PendingTask>> finished_;
  bool closed_ = false;
};

}  // namespace palimpsest
