// Task: arguments are ready when it is made, its work runs on the queue's thread, its result is made on the
// environment's thread, a promise tells of it.
#pragma once

#include <napi.h>

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "binding/environment.h"
#include "binding/failure.h"

namespace palimpsest {

struct Nothing {};

// Work: () -> T, no JavaScript. Make: (Napi::Env, T&) -> Napi::Value.
template <class Work, class Make>
class Task final : public PendingTask {
  using Returned = std::invoke_result_t<Work&>;
  using Outcome = std::conditional_t<std::is_void_v<Returned>, Nothing, Returned>;

 public:
  Task(Napi::Env env, Work work, Make make)
      : owner_(Environment::of(env).shared_from_this()),
        deferred_(env),
        work_(std::move(work)),
        make_(std::move(make)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  void run() noexcept override {
    try {
      if constexpr (std::is_void_v<Returned>) {
        (*work_)();
        outcome_.emplace();
      } else {
        outcome_.emplace((*work_)());
      }
    } catch (...) {
      failure_ = current_failure();
    }
    work_.reset();  // what the work held is let go of before anybody is told
  }

  void finish(std::unique_ptr<QueuedStep> self) noexcept override {
    static_cast<void>(self.release());
    const std::shared_ptr<Environment> owner = owner_;
    owner->finished(std::unique_ptr<PendingTask>(this));
  }

  void settle(Napi::Env env) override {
    try {
      if (failure_) throw to_error(env, *failure_);
      deferred_.Resolve(guarded(env, [&] { return make_(env, *outcome_); }));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    }
  }

 private:
  std::shared_ptr<Environment> owner_;
  Napi::Promise::Deferred deferred_;
  std::optional<Work> work_;
  Make make_;
  std::optional<Outcome> outcome_;
  std::optional<Failure> failure_;
};

struct Started {
  Napi::Value promise;
  Ticket ticket = 0;
};

template <class Work, class Make>
Started start_task(Napi::Env env, StepQueue& queue, Work work, Make make) {
  Environment::of(env).require_open();
  auto task = std::make_unique<Task<Work, Make>>(env, std::move(work), std::move(make));
  const Napi::Value promise = task->promise();
  return {promise, Environment::of(env).start(queue, std::move(task))};
}

// A task that tells only that it is done.
template <class Work>
Started start_task(Napi::Env env, StepQueue& queue, Work work) {
  return start_task(env, queue, std::move(work), [](Napi::Env of, Nothing&) { return of.Undefined(); });
}

}  // namespace palimpsest
