// Calibration of a device: its rates, and the time and working memory of steps that were run alone. Good for some
// seconds and as long as the device computes with the same settings: how fast a shared machine is changes within a
// minute.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/forecast.h"
#include "graph/program.h"
#include "graph/rates.h"

namespace palimpsest {

struct StepTime {
  double seconds = 0;
  double taken = 0;             // when
  std::vector<size_t> working;  // memory that its kernels worked in, by kind
};

class Calibration {
 public:
  static constexpr double good_seconds = 10;

  // `now` gives seconds of a clock that nobody sets back.
  explicit Calibration(std::shared_ptr<Backend> backend, std::function<double()> now = steady_seconds)
      : backend_(std::move(backend)), now_(std::move(now)) {}

  // Measures one more of the rates of a type in a precision; true once all of them are there. Old ones begin anew.
  bool measure_rates(DType dtype, Precision precision = Precision::float32);
  const Rates& rates(DType dtype, Precision precision = Precision::float32) const {
    return rates_[kind_of(dtype, precision)].rates;
  }

  // Runs steps of a program alone, those that are not known or no longer good, for about `seconds`; from the step
  // given. Returns the step to go on with.
  int time_steps(Program& program, const Bindings& bindings, int from, double seconds);
  // The last time that was taken, however old; null where it was not timed.
  const StepTime* find(const std::string& signature) const;

 private:
  struct Measured {
    Rates rates;
    int pieces = 0;
    double taken = 0;  // of the first piece
  };

  static double steady_seconds();
  static size_t kind_of(DType dtype, Precision precision) {
    return dtype == DType::f64 ? 2 : precision == Precision::tf32 ? 1 : 0;
  }
  void forget_other_settings();
  void time_step(const std::string& signature, const std::function<void()>& execute);
  bool is_good(double taken) const;

  std::shared_ptr<Backend> backend_;
  std::function<double()> now_;
  DeviceSettings settings_;
  Measured rates_[3];
  std::unordered_map<std::string, StepTime> steps_;
};

}  // namespace palimpsest
