// A loop over independent items on the threads of one OpenMP team, or on the caller's where there is none.
#pragma once

#include <atomic>
#include <cstdint>

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
// The same bits on any number of threads as long as no item depends on another; body must not throw.
template <class Body>
void parallel_for(int64_t count, const Body& body) {
#ifdef _OPENMP
  const int limit = parallel_threads().load(std::memory_order_relaxed);
  const int threads = limit > 0 ? limit : omp_get_max_threads();
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (count > 1)
#endif
  for (int64_t i = 0; i < count; ++i) body(i);
}

}  // namespace palimpsest
