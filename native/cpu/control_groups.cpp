// The folders of this process's control groups, by /proc/self/cgroup.
#include "cpu/control_groups.h"

#include <fstream>

namespace palimpsest::cpu {

void visit_control_groups(const std::string& controller,
                          const std::function<void(const std::string& folder, bool v2)>& visit) {
  std::ifstream groups("/proc/self/cgroup");
  std::string line;
  while (std::getline(groups, line)) {  // hierarchy:controllers:path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    const bool v2 = controllers.empty();
    if (!v2 && ("," + controllers + ",").find("," + controller + ",") == std::string::npos) continue;
    const std::string root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + controller;
    while (true) {
      if (path == "/") path.clear();
      visit(root + path, v2);
      if (path.empty()) break;
      path.erase(path.rfind('/'));
    }
  }
}

}  // namespace palimpsest::cpu
