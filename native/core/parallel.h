// A loop over independent items on the threads of one OpenMP team, or on the caller's where there is none.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace palimpsest {

// Threads that parallel_for may use; 0: OpenMP's own default. Set by whoever knows the process's share of the machine.
inline std::atomic<int>& parallel_threads() {
  static std::atomic<int> threads{0};
  return threads;
}

// Calls body(i) for every i in [0, count), items dealt out in turn (static), so that triangles are shared evenly.
// `work` is the rough number of operations of the whole loop: too little to be worth waking a team stays on this
// thread. The same bits on any number of threads as long as no item depends on another. What a body throws is thrown
// again once all items are done.
template <class Body>
void parallel_for(int64_t count, double work, const Body& body) {
#ifdef _OPENMP
  constexpr double worth_a_team = 1e6;  // some 300 us; on a busy machine a team waits for its last thread
  const int limit = parallel_threads().load(std::memory_order_relaxed);
  const int threads = limit > 0 ? limit : omp_get_max_threads();
  if (count > 1 && threads > 1 && work >= worth_a_team && !omp_in_parallel()) {
    std::exception_ptr failure;
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int64_t i = 0; i < count; ++i) {
      try {
        body(i);
      } catch (...) {
#pragma omp critical(palimpsest_parallel_failure)
        failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
    return;
  }
#endif
  static_cast<void>(work);
  for (int64_t i = 0; i < count; ++i) body(i);
}

}  // namespace palimpsest
