// The Gaussian privacy formulas and the release of noisy weights, as functions of the addon.
#pragma once

#include <napi.h>

namespace palimpsest {

void init_privacy(Napi::Env env, Napi::Object exports);

}  // namespace palimpsest
