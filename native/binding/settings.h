// deviceSettings(), configure(), memoryUse(): how a device computes, what it holds.
#pragma once

#include <napi.h>

namespace palimpsest {

void init_settings(Napi::Env env, Napi::Object exports);

}  // namespace palimpsest
