// Times of steps: each distinct one is run where it stands in its program, on what the steps before it left.
#include "graph/calibration.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "backend/in_precision.h"
#include "graph/clock.h"

namespace palimpsest {

namespace {

// Positions must be those that a kernel found: others would lead it out of its operand.
bool writes_positions(const Step& step) {
  return std::any_of(step.output_tensors.begin(), step.output_tensors.end(),
                     [](const Tensor& tensor) { return tensor.dtype == DType::i32; });
}

}  // namespace

double Calibration::steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool Calibration::is_good(double taken) const { return now_() - taken < good_seconds; }

void Calibration::forget_other_settings() {
  DeviceSettings now_set = backend_->settings();
  if (now_set == settings_) return;
  settings_ = std::move(now_set);
  steps_.clear();
  for (Measured& measured : rates_) measured = {};
}

bool Calibration::measure_rates(DType dtype, Precision precision) {
  forget_other_settings();
  Measured& measured = rates_[kind_of(dtype, precision)];
  const InPrecision in(*backend_, precision);
  if (!is_good(measured.taken)) measured.pieces = 0;
  if (measured.pieces == 0) measured.taken = now_();
  if (measured.pieces < rate_count) measure_rate(*backend_, dtype, measured.pieces++, measured.rates);
  return measured.pieces == rate_count;
}

void Calibration::time_step(const std::string& signature, const std::function<void()>& execute) {
  constexpr int most_runs = 10;
  constexpr double enough_seconds = 0.001, most_seconds = 0.05;
  constexpr size_t most_signatures = 8192;
  if (steps_.size() >= most_signatures) steps_.clear();
  StepTime time;
  backend_->watch_working_memory();
  execute();
  backend_->synchronize();
  time.working = backend_->working_memory();
  // The quickest run counts once another has come near it: one that nobody disturbed.
  double best = std::numeric_limits<double>::infinity(), second = best, spent = 0;
  const auto unsure = [&] { return second > 1.1 * best && spent < most_seconds; };
  for (int i = 0; i < most_runs && (i < 3 || spent < enough_seconds || unsure()); ++i) {
    const double start = clock_seconds(settings_.threads);
    execute();
    backend_->synchronize();
    const double took = clock_seconds(settings_.threads) - start;
    second = std::min(second, std::max(best, took));
    best = std::min(best, took);
    spent += took;
  }
  time.seconds = best;
  time.taken = now_();
  steps_.insert_or_assign(signature, std::move(time));
}

int Calibration::time_steps(Program& program, const Bindings& bindings, int from, double seconds) {
  forget_other_settings();
  const double end = clock_seconds(settings_.threads) + seconds;
  return program.visit(bindings, from, [&](const Step& step, const std::function<void()>& execute) {
    const std::string signature = signature_of(program.graph(), step, program.dtype(), program.precision());
    const StepTime* known = find(signature);
    if (known == nullptr || !is_good(known->taken)) {
      time_step(signature, execute);
    } else if (writes_positions(step)) {
      execute();
    } else {
      // What lies where its results would be may be numbers that kernels are slow on: positions, read as floats.
      for (const Tensor& output : step.output_tensors) backend_->fill(output, 0.5);
    }
    return clock_seconds(settings_.threads) < end;
  });
}

const StepTime* Calibration::find(const std::string& signature) const {
  const auto found = steps_.find(signature);
  return found == steps_.end() ? nullptr : &found->second;
}

}  // namespace palimpsest
