// The queue's thread, and the queues of this process.
#include "binding/step_queue.h"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <map>
#include <vector>

#include "binding/pin_library.h"

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <pthread.h>
#endif

namespace palimpsest {

namespace {

// Never destroyed: the threads outlive every static object.
struct Queues {
  std::mutex mutex;
  std::map<std::string, StepQueue*> by_device;
};

Queues& queues() {
  static Queues* all = new Queues;
  return *all;
}

// exit() destroys static objects, OpenMP's and oneDNN's too, while other threads run: no step may be among them.
void stop_all() {
  Queues& all = queues();
  const std::lock_guard<std::mutex> hold(all.mutex);
  for (const auto& [device, queue] : all.by_device) queue->stop();
}

// The thread that ends with the process; a worker's ends alone, and other threads' steps go on.
bool is_first_thread() {
#if defined(__linux__)
  return syscall(SYS_gettid) == getpid();
#elif defined(__APPLE__)
  return pthread_main_np() != 0;
#else
  return false;
#endif
}

struct ThreadGuard {
  bool first = false;
  ~ThreadGuard() {
    if (first) stop_all();
  }
};

}  // namespace

void StepQueue::guard_exit() { std::atexit(stop_all); }

void StepQueue::guard_thread() {
  thread_local ThreadGuard guard;
  guard.first = is_first_thread();
}

StepQueue& StepQueue::of_device(const std::string& asked) {
  const std::string device = device_name(asked);
  Queues& all = queues();
  const std::lock_guard<std::mutex> hold(all.mutex);
  if (const auto found = all.by_device.find(device); found != all.by_device.end()) return *found->second;
  std::unique_ptr<StepQueue> queue(new StepQueue(device));
  pin_library();
  guard_exit();
  return *(all.by_device[device] = queue.release());
}

void drop_from_all_queues(const void* owner) {
  std::vector<StepQueue*> opened;
  {
    Queues& all = queues();
    const std::lock_guard<std::mutex> hold(all.mutex);
    for (const auto& [device, queue] : all.by_device) opened.push_back(queue);
  }
  for (StepQueue* queue : opened) queue->drop(owner);
}

StepQueue::StepQueue(std::string device) : device_(std::move(device)) {
  std::unique_lock<std::mutex> lock(mutex_);
  std::thread thread([this] { loop(); });
  thread_ = thread.get_id();
  progress_.wait(lock, [this] { return open_ || failure_; });
  if (failure_) {
    lock.unlock();
    thread.join();
    std::rethrow_exception(failure_);
  }
  thread.detach();
}

void StepQueue::loop() {
  std::shared_ptr<Backend> backend;
  std::exception_ptr failure;
  try {
    backend = open_backend(device_);
  } catch (...) {
    failure = std::current_exception();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  backend_ = std::move(backend);
  failure_ = failure;
  open_ = !failure;
  progress_.notify_all();
  if (failure) return;
  while (true) {
    // Once stopping the thread only waits for the process to end: leaving would destroy its working memory meanwhile.
    work_.wait(lock, [this] { return !stopping_ && !entries_.empty(); });
    run_next(lock);
  }
}

void StepQueue::run_next(std::unique_lock<std::mutex>& lock) {
  Entry entry = std::move(entries_.front());
  entries_.pop_front();
  running_ = entry.ticket;
  running_owner_ = entry.owner;
  lock.unlock();
  QueuedStep* step = entry.step.get();
  step->run();
  step->finish(std::move(entry.step));
  lock.lock();
  running_ = 0;
  running_owner_ = nullptr;
  progress_.notify_all();
}

Ticket StepQueue::push(std::unique_ptr<QueuedStep> step, const void* owner) {
  const std::lock_guard<std::mutex> hold(mutex_);
  entries_.push_back({std::move(step), owner, last_ + 1});
  work_.notify_one();
  return ++last_;
}

bool StepQueue::pending(Ticket ticket) const {
  if (ticket == running_) return true;
  const auto place = std::lower_bound(entries_.begin(), entries_.end(), ticket,
                                      [](const Entry& entry, Ticket wanted) { return entry.ticket < wanted; });
  return !stopping_ && place != entries_.end() && place->ticket == ticket;
}

void StepQueue::wait(Ticket ticket) {
  if (ticket == 0) return;
  std::unique_lock<std::mutex> lock(mutex_);
  progress_.wait(lock, [&] { return !pending(ticket); });
}

void StepQueue::drop(const void* owner) {
  std::deque<Entry> dropped;  // ends after the lock is gone: what its steps hold may itself be queued for its end
  std::unique_lock<std::mutex> lock(mutex_);
  std::deque<Entry> kept;
  for (Entry& entry : entries_) (entry.owner == owner ? dropped : kept).push_back(std::move(entry));
  entries_ = std::move(kept);
  progress_.notify_all();
  progress_.wait(lock, [&] { return running_ == 0 || running_owner_ != owner; });
}

void StepQueue::stop() {
  std::unique_lock<std::mutex> lock(mutex_);
  stopping_ = true;
  progress_.notify_all();
  progress_.wait(lock, [this] { return running_ == 0; });
}

}  // namespace palimpsest
