// Free memory by /proc/meminfo and the limits of control groups, versions 1 and 2.
#include "cpu/free_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "cpu/control_groups.h"

namespace palimpsest::cpu {
namespace {

constexpr size_t unknown = std::numeric_limits<size_t>::max();

size_t machine_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  size_t kibibytes = 0;
  while (file >> key >> kibibytes) {
    if (key == "MemAvailable:") return kibibytes * 1024;
    std::getline(file, unit);
  }
  return unknown;
}

// A number in a file, `unknown` where there is none ("max").
size_t number_in(const std::string& path) {
  std::ifstream file(path);
  size_t value = 0;
  return file >> value ? value : unknown;
}

// Files that a group may keep: dropped before the group runs out.
size_t file_cache(const std::string& folder, const std::string& wanted) {
  std::ifstream file(folder + "/memory.stat");
  std::string key;
  size_t value = 0;
  while (file >> key >> value) {
    if (key == wanted) return value;
  }
  return 0;
}

size_t left_in(const std::string& folder, const char* limit, const char* used, const char* cache) {
  const size_t most = number_in(folder + "/" + limit), now = number_in(folder + "/" + used);
  if (most == unknown || now == unknown) return unknown;
  const size_t kept = std::min(now, file_cache(folder, cache));
  return most > now - kept ? most - (now - kept) : 0;
}

// The least that the process's groups, and those above them, leave.
size_t group_memory() {
  size_t least = unknown;
  visit_control_groups("memory", [&](const std::string& folder, bool v2) {
    const size_t left = v2 ? left_in(folder, "memory.max", "memory.current", "inactive_file")
                           : left_in(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file");
    least = std::min(least, left);
  });
  return least;
}

}  // namespace

size_t free_memory() { return std::min(machine_memory(), group_memory()); }

}  // namespace palimpsest::cpu
