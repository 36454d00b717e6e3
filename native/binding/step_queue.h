// The one native thread of a device and process: a first-in first-out queue of steps, each owned by an environment.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "backend/backend.h"

namespace palimpsest {

// A unit of work. `run` happens on the queue's thread and keeps its failure to itself; then `finish` is called there.
class QueuedStep {
 public:
  virtual ~QueuedStep() = default;
  virtual void run() noexcept = 0;
  virtual void finish(std::unique_ptr<QueuedStep> self) noexcept = 0;  // self is this step; dropping it ends it
};

// A step's place in its queue's history; 0 is no step.
using Ticket = uint64_t;

class StepQueue {
 public:
  // The queue of a device, whose backend is opened on the queue's thread at first use; throws what open_backend throws.
  // Queues live as long as the process.
  static StepQueue& of_device(const std::string& device);

  StepQueue(const StepQueue&) = delete;
  StepQueue& operator=(const StepQueue&) = delete;

  const std::string& device() const { return device_; }
  // For calls on the queue's thread, except copy_out of memory that no pending step writes.
  Backend& backend() const { return *backend_; }
  std::shared_ptr<Backend> shared_backend() const { return backend_; }
  bool on_thread() const { return std::this_thread::get_id() == thread_; }

  // Owner null: the queue's own housekeeping.
  Ticket push(std::unique_ptr<QueuedStep> step, const void* owner);
  // Blocks until the step is over or dropped.
  void wait(Ticket ticket);
  // Drops the owner's queued steps and waits for its running one.
  void drop(const void* owner);
  // At the end of the process: waits for the running step; no other begins after it.
  void stop();
  // After the first run of something new: exit() shall stop the queues before it destroys what that run made static,
  // a library's cache of compiled kernels for instance. Last registered, first called.
  static void guard_exit();
  // On an environment's thread. exit() there destroys what the thread holds before it calls any handler or destroys any
  // static object ([support.start.term]), also one that a step is just making: the queues stop first of all.
  static void guard_thread();

  // Shares an object that was made on the queue's thread and must end there too, after the steps queued before.
  template <class T>
  std::shared_ptr<T> share(std::unique_ptr<T> object) {
    return std::shared_ptr<T>(object.release(), [this](T* last) noexcept { discard(last); });
  }

 private:
  struct Entry {
    std::unique_ptr<QueuedStep> step;
    const void* owner = nullptr;
    Ticket ticket = 0;
  };

  explicit StepQueue(std::string device);
  void loop();
  void run_next(std::unique_lock<std::mutex>& lock);
  bool pending(Ticket ticket) const;

  template <class T>
  void discard(T* object) noexcept;

  const std::string device_;
  std::shared_ptr<Backend> backend_;
  std::exception_ptr failure_;
  std::thread::id thread_;

  std::mutex mutex_;
  std::condition_variable work_, progress_;
  std::deque<Entry> entries_;
  Ticket last_ = 0, running_ = 0;
  const void* running_owner_ = nullptr;
  bool open_ = false, stopping_ = false;
};

// Of the queues opened so far.
void drop_from_all_queues(const void* owner);

template <class T>
void StepQueue::discard(T* object) noexcept {
  struct Discard : QueuedStep {
    explicit Discard(T* last) : object_(last) {}
    void run() noexcept override { object_.reset(); }
    void finish(std::unique_ptr<QueuedStep>) noexcept override {}
    std::unique_ptr<T> object_;
  };
  std::unique_ptr<T> last(object);
  if (on_thread()) return;
  try {
    auto step = std::make_unique<Discard>(nullptr);
    step->object_ = std::move(last);
    push(std::move(step), nullptr);
  } catch (...) {
    // Without memory for a step the object ends here.
  }
}

}  // namespace palimpsest
