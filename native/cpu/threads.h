// The team of threads that every kernel shares: its size, and loops cut into contiguous shares.
#pragma once

#include <cstdint>
#include <type_traits>

namespace palimpsest::cpu {

// Threads a kernel may use. At start: OMP_NUM_THREADS where set, otherwise the processors of the process's affinity
// mask, at most its cgroup's processor quota.
int thread_count();
// n >= 1; 0 goes back to the default. Throws ERR_INVALID_ARGUMENT below 0.
void set_threads(int n);

// Largest number of threads whose time the machine grants this process.
int available_threads();

// Tells OpenMP, for libraries that the calling thread calls, how many threads to use.
void share_team_size();

using RangeFunction = void (*)(void* context, int64_t begin, int64_t end, int thread);

// Calls function(context, begin, end, thread) for up to `threads` contiguous shares that cover [0, count) in order.
// The cut depends on count and threads only. An exception of any share is thrown on after all have ended.
void run_team(int64_t count, int threads, RangeFunction function, void* context);

// body(begin, end, thread) over shares of [0, count); `work` is the rough number of operations of the whole loop, too
// little of which stays on the calling thread.
template <class Body>
void parallel_for(int64_t count, double work, Body&& body) {
  constexpr double work_a_thread = 20000;  // a wake-up costs a few microseconds
  int threads = thread_count();
  if (work < 2 * work_a_thread) threads = 1;
  if (count < threads) threads = static_cast<int>(count);
  if (threads <= 1) {
    if (count > 0) body(int64_t{0}, count, 0);
    return;
  }
  run_team(
      count, threads,
      [](void* context, int64_t begin, int64_t end, int thread) {
        (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end, thread);
      },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace palimpsest::cpu
