// The team's size from affinity mask and cgroup quota, and its static loops.
#include "cpu/threads.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif

#include "core/error.h"
#include "core/parallel.h"
#include "cpu/control_groups.h"

namespace palimpsest::cpu {
namespace {

constexpr int most_threads = 1024;

int affinity_processors() {
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

// "max 100000" or "150000 100000" of cgroup v2; 0 where there is no quota.
double quota_v2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  return std::atof(quota.c_str()) / period;
}

double quota_v1(const std::string& folder) {
  double quota = 0, period = 0;
  std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
  std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  return quota > 0 && period > 0 ? quota / period : 0;
}

// The tightest quota of the process's cgroup and the groups above it; 0 where none is set.
double cgroup_processors() {
  double tightest = 0;
  visit_control_groups("cpu", [&](const std::string& folder, bool v2) {
    const double quota = v2 ? quota_v2(folder) : quota_v1(folder);
    if (quota > 0 && (tightest == 0 || quota < tightest)) tightest = quota;
  });
  return tightest;
}

int default_threads() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const int given = std::atoi(text);
    if (given >= 1) return std::min(given, most_threads);
  }
  return available_threads();
}

// The engine's own loops have the same team as the kernels.
int shared(int threads) {
  parallel_threads().store(threads, std::memory_order_relaxed);
  return threads;
}

std::atomic<int>& team_size() {
  static std::atomic<int> size{shared(default_threads())};
  return size;
}

}  // namespace

int available_threads() {
  static const int available = [] {
    const double quota = cgroup_processors();
    int threads = affinity_processors();
    if (quota > 0 && quota < threads) threads = static_cast<int>(std::ceil(quota));
    return threads < 1 ? 1 : threads;
  }();
  return available;
}

int thread_count() { return team_size().load(std::memory_order_relaxed); }

void set_threads(int n) {
  if (n < 0 || n > most_threads) {
    throw Error(ErrorCode::invalid_argument,
                "expected 0 to " + std::to_string(most_threads) + " threads, got " + std::to_string(n));
  }
  team_size().store(shared(n == 0 ? default_threads() : n), std::memory_order_relaxed);
}

void share_team_size() {
#ifdef _OPENMP
  if (omp_get_max_threads() != thread_count()) omp_set_num_threads(thread_count());
#endif
}

void run_team(int64_t count, int threads, RangeFunction function, void* context) {
#ifdef _OPENMP
  if (threads > 1 && !omp_in_parallel()) {
    std::exception_ptr failure;
    std::mutex failure_lock;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int share = 0; share < threads; ++share) {
      try {
        function(context, count * share / threads, count * (share + 1) / threads, share);
      } catch (...) {
        const std::lock_guard<std::mutex> hold(failure_lock);
        if (!failure) failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
    return;
  }
#endif
  for (int share = 0; share < threads; ++share) {
    function(context, count * share / threads, count * (share + 1) / threads, share);
  }
}

}  // namespace palimpsest::cpu
