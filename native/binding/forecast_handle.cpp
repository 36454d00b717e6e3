// Forecast's constructor and its one method.
#include "binding/forecast_handle.h"

#include "binding/program_call.h"
#include "binding/task.h"
#include "binding/vector_handle.h"

namespace palimpsest {

namespace {

Napi::Value rates_object(Napi::Env env, const Rates& rates) {
  const Napi::Object made = Napi::Object::New(env);
  made.Set("gemm", rates.gemm);
  made.Set("conv", rates.conv);
  made.Set("squares", rates.squares);
  made.Set("copy", rates.copy.back());
  made.Set("call", rates.call);
  return made;
}

Napi::Value numbers_object(Napi::Env env, const ForecastNumbers& numbers) {
  const Napi::Object made = Napi::Object::New(env);
  const auto set = [&](const char* name, auto value) { made.Set(name, static_cast<double>(value)); };
  made.Set("done", numbers.done);
  set("seconds", numbers.seconds);
  set("secondsByRates", numbers.seconds_by_rates);
  set("flops", numbers.flops);
  set("bytes", numbers.bytes);
  set("arenaBytes", numbers.arena);
  set("constantBytes", numbers.constants);
  set("bufferBytes", numbers.buffers);
  set("workingBytes", numbers.working);
  set("steps", numbers.steps);
  set("rehearsedBatch", numbers.rehearsed_batch);
  made.Set("rates", rates_object(env, numbers.rates));
  return made;
}

}  // namespace

void ForecastHandle::init(Napi::Env env, Napi::Object exports) {
  exports.Set(name, define(env, {method_named<&ForecastHandle::measure>("measure")}));
}

ForecastHandle::ForecastHandle(const Napi::CallbackInfo& info) : Handle(info) {
  guarded(info.Env(), [&] {
    const std::shared_ptr<PlacedNetwork> placed = NetworkHandle::from(info[0], "network").held();
    const ProgramRequest request = read_program_request(info[1], *placed->layout);
    const std::shared_ptr<DeviceVector>& parameters = VectorHandle::from(info[2], "parameters").held();
    const bool fits = parameters->dtype() == request.dtype && same_layout(*parameters->layout(), *placed->layout);
    if (!fits) refuse("a vector of the network's parameters and the program's type", "parameters", info[2]);
    hold(info.Env(),
         placed->queue.share(
             std::make_unique<DeviceForecast>(placed, request.options, request.dtype, request.precision, parameters)),
         0);
  });
}

// (seconds): numbers as far as they are known.
Napi::Value ForecastHandle::measure(const Napi::CallbackInfo& info) {
  const double seconds = finite_number(info[0], "seconds");
  return start_task(
             info.Env(), held()->queue(), [forecast = held(), seconds] { return forecast->measure(seconds); },
             [](Napi::Env env, const ForecastNumbers& numbers) { return numbers_object(env, numbers); })
      .promise;
}

}  // namespace palimpsest
