// Ridge's constructor and steps.
#include "binding/ridge_handle.h"

#include "binding/arguments.h"
#include "binding/task.h"

namespace palimpsest {

void RidgeHandle::init(Napi::Env env, Napi::Object exports) {
  exports.Set(name, define(env, {
                                    method_named<&RidgeHandle::add>("add"),
                                    method_named<&RidgeHandle::subtract>("subtract"),
                                    method_named<&RidgeHandle::solve>("solve"),
                                    method_named<&RidgeHandle::certify>("certify"),
                                    method_named<&RidgeHandle::sample>("sample"),
                                }));
}

// (features, outputs, device), or (other: Ridge) for an independent copy of its sums.
RidgeHandle::RidgeHandle(const Napi::CallbackInfo& info) : Handle(info) {
  guarded(info.Env(), [&] {
    if (info.Length() == 1) {
      const std::shared_ptr<RidgeState>& other = RidgeHandle::from(info[0], "other").held();
      StepQueue& queue = other->queue;
      const RidgeStatistics empty(other->statistics.features(), other->statistics.outputs());
      hold(info.Env(), queue.share(std::make_unique<RidgeState>(queue, empty)), 0);
      start_task(info.Env(), queue, [self = held(), other] { self->statistics = other->statistics; });
      return;
    }
    const int64_t features = whole_number(info[0], "features", 1, 1 << 15);
    const int64_t outputs = whole_number(info[1], "outputs", 1, 1 << 20);
    StepQueue& queue = StepQueue::of_device(string(info[2], "device"));
    hold(info.Env(), queue.share(std::make_unique<RidgeState>(queue, RidgeStatistics(features, outputs))),
         features * (features + outputs) * 8);
  });
}

Napi::Value RidgeHandle::add(const Napi::CallbackInfo& info) { return update(info, true); }
Napi::Value RidgeHandle::subtract(const Napi::CallbackInfo& info) { return update(info, false); }

// (rows, phi [rows, f], r0 [rows, K])
Napi::Value RidgeHandle::update(const Napi::CallbackInfo& info, bool add) {
  const RidgeStatistics& statistics = held()->statistics;
  const int64_t rows = whole_number(info[0], "rows", 1, int64_t{1} << 31);
  std::vector<double> phi(static_cast<size_t>(rows * statistics.features()));
  std::vector<double> residual(static_cast<size_t>(rows * statistics.outputs()));
  copy_floats(info[1], "phi", rows * statistics.features(), DType::f64, phi.data());
  copy_floats(info[2], "residual", rows * statistics.outputs(), DType::f64, residual.data());
  return start_task(info.Env(), held()->queue,
                    [state = held(), phi = std::move(phi), residual = std::move(residual), add] {
                      const std::span<const double> p(phi), r(residual);
                      if (add) {
                        state->statistics.add(p, r);
                      } else {
                        state->statistics.subtract(p, r);
                      }
                    })
      .promise;
}

// (mu) -> W [f, K]
Napi::Value RidgeHandle::solve(const Napi::CallbackInfo& info) {
  return start_task(
             info.Env(), held()->queue,
             [state = held(), mu = finite_number(info[0], "mu")] {
               state->solver = std::make_unique<RidgeSolver>(state->statistics, mu);
               return state->solver->solve();
             },
             [](Napi::Env env, const std::vector<double>& w) {
               return float_array(env, DType::f64, w.data(), w.size());
             })
      .promise;
}

// (W) -> { residual, distance, energy, allowance, covarianceNats } for the rows of the last solve
Napi::Value RidgeHandle::certify(const Napi::CallbackInfo& info) {
  const int64_t size = held()->statistics.features() * held()->statistics.outputs();
  std::vector<double> w(static_cast<size_t>(size));
  copy_floats(info[0], "w", size, DType::f64, w.data());
  return start_task(
             info.Env(), held()->queue,
             [state = held(), w = std::move(w)] {
               if (!state->solver) throw Error(ErrorCode::internal, "expected solve before certify");
               return std::pair(state->solver->certify(w), state->solver->covariance_nats());
             },
             [](Napi::Env env, const std::pair<RidgeCertificate, double>& result) -> Napi::Value {
               const Napi::Object out = Napi::Object::New(env);
               out.Set("residual", result.first.residual);
               out.Set("distance", result.first.distance);
               out.Set("energy", result.first.energy);
               out.Set("allowance", result.first.allowance);
               out.Set("covarianceNats", result.second);
               return out;
             })
      .promise;
}

// (scale, seed | undefined) -> a draw of N(0, scale^2 H^-1) for every output, [f, K]
Napi::Value RidgeHandle::sample(const Napi::CallbackInfo& info) {
  const SecretKey key =
      info[1].IsUndefined()
          ? SecretKey::from_system()
          : SecretKey::from_seed(static_cast<uint64_t>(whole_number(info[1], "seed", 0, int64_t{1} << 53)));
  return start_task(
             info.Env(), held()->queue,
             [state = held(), scale = finite_number(info[0], "scale"), key] {
               if (!state->solver) throw Error(ErrorCode::internal, "expected solve before sample");
               std::vector<double> out(static_cast<size_t>(state->statistics.features() * state->statistics.outputs()));
               state->solver->sample(key, 0, scale, out);
               return out;
             },
             [](Napi::Env env, const std::vector<double>& w) {
               return float_array(env, DType::f64, w.data(), w.size());
             })
      .promise;
}

}  // namespace palimpsest
