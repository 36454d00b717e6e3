// The Gaussian privacy formulas and the release of noisy weights, as functions of the addon.
#include "binding/privacy.h"

#include <optional>

#include "binding/selection.h"
#include "binding/task.h"
#include "binding/vector_handle.h"
#include "unlearn/gaussian_privacy.h"
#include "unlearn/grid_noise.h"

namespace palimpsest {

namespace {

template <double (*function)(double)>
Napi::Value unary(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), function(finite_number(info[0], "value")));
  });
}

template <double (*function)(double, double)>
Napi::Value binary(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), function(finite_number(info[0], "first"), finite_number(info[1], "second")));
  });
}

// Float32 weights do not lie on a grid, and their rounding is not that of the mean that was certified.
VectorHandle& wide_vector(const Napi::Value& value) {
  VectorHandle& handle = VectorHandle::from(value, "vector");
  if (handle.held()->dtype() != DType::f64) refuse("a float64 vector", "vector", value);
  return handle;
}

// (vector float64, parameters, scale): w := h round(w/h) on the grid of that noise scale; the spacing h comes back.
Napi::Value round_to_noise_grid(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    VectorHandle& handle = wide_vector(info[0]);
    Selection selection(info[1], *handle.held()->layout());
    const NoiseGrid grid = noise_grid(finite_number(info[2], "scale"), selection.size());
    const Started started = start_task(
        info.Env(), handle.held()->queue(),
        [vector = handle.held(), selection = std::move(selection), grid] {
          std::vector<double> w = selection.gather<double>(*vector);
          round_to_grid(w, grid);
          selection.scatter<double>(w, *vector);
          return grid.spacing;
        },
        [](Napi::Env env, double spacing) { return Napi::Number::New(env, spacing); });
    handle.written_by(started.ticket);
    return started.promise;
  });
}

// (vector float64 on the grid, parameters, scale, seed | undefined, shaped: Float64Array | undefined): adds one draw of
// the noise, keyed by the operating system unless a test gives a seed, and rounds the sums to float32.
Napi::Value add_release_noise(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    VectorHandle& handle = wide_vector(info[0]);
    Selection selection(info[1], *handle.held()->layout());
    const NoiseGrid grid = noise_grid(finite_number(info[2], "scale"), selection.size());
    const SecretKey key =
        info[3].IsUndefined()
            ? SecretKey::from_system()
            : SecretKey::from_seed(static_cast<uint64_t>(whole_number(info[3], "seed", 0, int64_t{1} << 53)));
    std::optional<std::vector<double>> shaped;
    if (!info[4].IsUndefined()) {
      shaped.emplace(static_cast<size_t>(selection.size()));
      copy_floats(info[4], "shaped", selection.size(), DType::f64, shaped->data());
    }
    const Started started =
        start_task(info.Env(), handle.held()->queue(),
                   [vector = handle.held(), selection = std::move(selection), grid, key, shaped = std::move(shaped)] {
                     std::vector<double> w = selection.gather<double>(*vector);
                     GridNoise noise(grid, key);
                     if (shaped) {
                       noise.add_shaped(w, *shaped);
                     } else {
                       noise.add(w);
                     }
                     std::vector<float> released(w.size());
                     to_float32(w, released);
                     selection.scatter<float>(released, *vector);
                   });
    handle.written_by(started.ticket);
    return started.promise;
  });
}

}  // namespace

void init_privacy(Napi::Env env, Napi::Object exports) {
  const auto set = [&](const char* called, auto function) {
    exports.Set(called, Napi::Function::New(env, function, called));
  };
  set("natsOf", unary<nats_of>);
  set("distanceOfNats", unary<distance_of_nats>);
  set("advantage", unary<advantage>);
  set("epsilonOf", binary<epsilon_of>);
  set("distanceOf", binary<distance_of>);
  set("deltaOf", binary<delta_of>);
  set("roundToNoiseGrid", round_to_noise_grid);
  set("addReleaseNoise", add_release_noise);
}

}  // namespace palimpsest
