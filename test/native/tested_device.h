// The device that this run of the tests is about: the CPU, or what --device names.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"

namespace palimpsest::check {

void test_on(const std::string& device);
const std::string& tested_device();
// Its backend, one for the whole run. Where it cannot be had the running test is skipped: this throws Unavailable.
std::shared_ptr<Backend> tested_backend();

}  // namespace palimpsest::check
