// Wall-clock or processor time.
#include "graph/clock.h"

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <string>

namespace palimpsest {

double clock_seconds(int threads) {
  static const bool processor = [] {
    const char* text = std::getenv("PALIMPSEST_CLOCK");
    return text != nullptr && std::string(text) == "processor";
  }();
  if (processor) {
    const double shared = threads > 0 ? threads : 1;
#ifdef CLOCK_PROCESS_CPUTIME_ID
    timespec spent{};
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent) == 0) {
      return (static_cast<double>(spent.tv_sec) + 1e-9 * static_cast<double>(spent.tv_nsec)) / shared;
    }
#endif
    return static_cast<double>(std::clock()) / CLOCKS_PER_SEC / shared;
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace palimpsest
