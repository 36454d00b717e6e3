// The network description of lib/network.ts, read into graph/network.h's and written back.
#pragma once

#include <napi.h>

#include "graph/network.h"

namespace palimpsest {

NetworkDescription read_network_description(const Napi::Value& value);

// The other way: an object of lib/network.ts's type.
Napi::Object write_network_description(Napi::Env env, const NetworkDescription& description);

}  // namespace palimpsest
