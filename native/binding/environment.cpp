// Life of an environment: hooks at its end, and the channel on which finished tasks come back.
#include "binding/environment.h"

#include "core/error.h"

namespace palimpsest {

namespace {

using Shared = std::shared_ptr<Environment>;

// exit() on the main thread runs no cleanup hooks; the 'exit' event comes before anything is torn down.
void close_on_exit_event(Napi::Env env, const Shared& environment) {
  const Napi::Value process = env.Global().Get("process");
  if (!process.IsObject()) return;
  const Napi::Value on = process.As<Napi::Object>().Get("on");
  if (!on.IsFunction()) return;
  const auto close = [environment](const Napi::CallbackInfo&) { environment->close(); };
  on.As<Napi::Function>().Call(process, {Napi::String::New(env, "exit"), Napi::Function::New(env, close)});
}

}  // namespace

Environment::Environment(Napi::Env env) : env_(env) {}

void Environment::install(Napi::Env env) {
  Shared environment(new Environment(env));
  env.SetInstanceData(new Shared(environment));
  environment->open_channel();
  StepQueue::guard_thread();
  // Hooks run in reverse order: this one before the channel's own.
  env.AddCleanupHook([environment] { environment->end(); });
  close_on_exit_event(env, environment);
}

Environment& Environment::of(Napi::Env env) { return **env.GetInstanceData<Shared>(); }

void Environment::open_channel() {
  const Napi::String name = Napi::String::New(env_, "palimpsest");
  const napi_status made = napi_create_threadsafe_function(env_, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this,
                                                           on_finished, &channel_);
  if (made != napi_ok || napi_unref_threadsafe_function(env_, channel_) != napi_ok) throw Napi::Error::New(env_);
}

void Environment::close() noexcept {
  {
    const std::lock_guard<std::mutex> hold(mutex_);
    closed_ = true;
  }
  drop_from_all_queues(this);
  std::deque<std::unique_ptr<PendingTask>> unsettled;
  const std::lock_guard<std::mutex> hold(mutex_);
  unsettled.swap(finished_);
}

void Environment::end() noexcept {
  close();
  error_class_.Reset();
  program_class_.Reset();
  linearization_class_.Reset();
}

void Environment::require_open() const {
  if (closed_) throw Error(ErrorCode::aborted, "expected a running process or worker, got one that is ending");
}

Ticket Environment::start(StepQueue& queue, std::unique_ptr<PendingTask> task) {
  require_open();
  if (unsettled_ == 0) napi_ref_threadsafe_function(env_, channel_);
  ++unsettled_;
  return queue.push(std::move(task), this);
}

Ticket Environment::post(StepQueue& queue, std::unique_ptr<QueuedStep> step) {
  require_open();
  return queue.push(std::move(step), this);
}

void Environment::finished(std::unique_ptr<PendingTask> task) noexcept {
  const std::lock_guard<std::mutex> hold(mutex_);
  if (closed_) return;
  finished_.push_back(std::move(task));
  napi_call_threadsafe_function(channel_, nullptr, napi_tsfn_nonblocking);
}

void Environment::on_finished(napi_env env, napi_value, void* context, void*) {
  if (env == nullptr) return;  // the environment is being torn down
  static_cast<Environment*>(context)->settle_finished();
}

void Environment::settle_finished() {
  std::deque<std::unique_ptr<PendingTask>> batch;
  {
    const std::lock_guard<std::mutex> hold(mutex_);
    batch.swap(finished_);
  }
  for (const std::unique_ptr<PendingTask>& task : batch) {
    const Napi::HandleScope scope(env_);
    try {
      task->settle(env_);
    } catch (...) {
      // A worker that is being terminated throws at every call; its promises have nobody left to tell.
    }
    if (--unsettled_ == 0) napi_unref_threadsafe_function(env_, channel_);
  }
}

}  // namespace palimpsest
