// What the CPU backend may be told: how many threads, which instruction set.
#pragma once

#include "backend/backend.h"

namespace palimpsest::cpu {

DeviceSettings settings();
std::vector<std::string> instruction_sets();
void configure(const DeviceSettings& wanted);

}  // namespace palimpsest::cpu
