// devices(): what this machine offers.
#pragma once

#include <napi.h>

namespace palimpsest {

void init_devices(Napi::Env env, Napi::Object exports);

}  // namespace palimpsest
