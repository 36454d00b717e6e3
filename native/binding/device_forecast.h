// DeviceForecast: what a program will take, known without running it: planned memory, and its time from a rehearsal of
// its distinct steps on a small batch.
#pragma once

#include <memory>
#include <vector>

#include "binding/device_program.h"
#include "binding/device_vector.h"
#include "graph/calibration.h"

namespace palimpsest {

struct ForecastNumbers {
  bool done = false;  // every step of the rehearsal was timed
  double seconds = 0, seconds_by_rates = 0;
  double flops = 0, bytes = 0;  // of one run
  size_t arena = 0, constants = 0, buffers = 0, working = 0;
  int64_t steps = 0, rehearsed_batch = 0;
  Rates rates;
};

class DeviceForecast {
 public:
  DeviceForecast(std::shared_ptr<PlacedNetwork> placed, const ProductOptions& options, DType dtype, Precision precision,
                 std::shared_ptr<DeviceVector> parameters)
      : placed_(std::move(placed)),
        options_(options),
        dtype_(dtype),
        precision_(precision),
        parameters_(std::move(parameters)) {}

  StepQueue& queue() const { return placed_->queue; }

  // On the queue's thread: plans at the first call, then measures for about so many seconds. 0 measures nothing.
  ForecastNumbers measure(double seconds);

 private:
  void plan();
  void open_rehearsal();
  void rehearse(double seconds);
  void add_up(ForecastNumbers& numbers) const;

  std::shared_ptr<PlacedNetwork> placed_;
  ProductOptions options_;
  DType dtype_;
  Precision precision_;
  std::shared_ptr<DeviceVector> parameters_;

  bool planned_ = false, rehearsed_ = false, rated_ = false;
  ForecastNumbers numbers_;
  std::vector<StepCost> costs_;  // of the whole batch

  // The small batch: its program while it is rehearsed, then costs and times of its steps.
  std::unique_ptr<DeviceProgram> small_;
  std::shared_ptr<DeviceVector> sums_;
  int next_ = 0;
  std::vector<StepCost> small_costs_;
  std::vector<StepTime> small_times_;
};

}  // namespace palimpsest
