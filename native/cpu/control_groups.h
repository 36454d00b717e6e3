// The control groups of this process, versions 1 and 2.
#pragma once

#include <functional>
#include <string>

namespace palimpsest::cpu {

// Visits the folders of the process's groups that have the controller ("cpu", "memory"), each group before those above
// it. None where the system has no control groups.
void visit_control_groups(const std::string& controller,
                          const std::function<void(const std::string& folder, bool v2)>&);

}  // namespace palimpsest::cpu
