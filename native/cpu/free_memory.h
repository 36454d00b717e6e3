// Memory that the system could still give this process.
#pragma once

#include <cstddef>

namespace palimpsest::cpu {

// Bytes: of the machine, at most what the process's control group may still take. The largest number where neither
// says.
size_t free_memory();

}  // namespace palimpsest::cpu
