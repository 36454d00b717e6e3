// The network description of lib/network.ts, read into graph/network.h's.
#pragma once

#include <napi.h>

#include "graph/network.h"

namespace palimpsest {

NetworkDescription read_network_description(const Napi::Value& value);

}  // namespace palimpsest
