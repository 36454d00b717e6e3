// A plan of the whole batch for sizes and costs, a rehearsal of a small one for times.
#include "binding/device_forecast.h"

#include <algorithm>
#include <map>
#include <mutex>

namespace palimpsest {

namespace {

// A forward pass of the small batch takes about so long; what a rehearsal takes is a few times that, however deep the
// network: steps that repeat are timed once.
constexpr double forward_seconds = 0.04;
// Kernels on tiles take whole blocks of images, others what does not fill one: a block is rehearsed where it takes no
// longer than this.
constexpr double block_seconds = 0.15;
constexpr int64_t block_images = 32;

// Each is of one device and used on its queue's thread alone; the map is all threads'. Never destroyed: the threads
// outlive every static object.
Calibration& calibration_of(StepQueue& queue) {
  static std::mutex* mutex = new std::mutex;
  static std::map<StepQueue*, Calibration>* all = new std::map<StepQueue*, Calibration>;
  const std::lock_guard<std::mutex> lock(*mutex);
  return all->try_emplace(&queue, queue.shared_backend()).first->second;
}

// Of one row of the network's forward pass.
double forward_flops(const Network& network) {
  ProductOptions options;
  options.batch = 2;
  const ProgramDescription description = product_graph(network, options);
  return make_plan(description, DType::f32).flops / 2;
}

}  // namespace

void DeviceForecast::plan() {
  const ProgramDescription description = product_graph(placed_->network, options_);
  const Plan plan = make_plan(description, dtype_);
  costs_ = costs_of(description.graph, plan);
  numbers_.arena = static_cast<size_t>(plan.arena_bytes);
  numbers_.constants = planned_bytes(plan, placed_->network, dtype_) - numbers_.arena;
  numbers_.buffers = binding_bytes(description, dtype_);
  numbers_.steps = static_cast<int64_t>(plan.steps.size());
  for (const StepCost& cost : costs_) {
    numbers_.flops += cost.flops;
    numbers_.bytes += cost.bytes;
  }
  planned_ = true;
}

void DeviceForecast::open_rehearsal() {
  const double rate = calibration_of(queue()).rates(dtype_, precision_).gemm;
  const double row_flops = std::max(1.0, forward_flops(placed_->network));
  const bool block = block_images * row_flops <= block_seconds * rate;
  const double rows = std::max(forward_seconds * rate / row_flops, block ? block_images : 0.0);
  ProductOptions options = options_;
  options.batch = std::min<int64_t>(options.batch, 2);
  while (2 * options.batch <= options_.batch && static_cast<double>(2 * options.batch) <= rows) options.batch *= 2;
  if (2 * options.batch > options_.batch) options.batch = options_.batch;
  numbers_.rehearsed_batch = options.batch;
  small_ = std::make_unique<DeviceProgram>(placed_, options, dtype_, precision_);
  sums_ = queue().share(std::make_unique<DeviceVector>(placed_->layout, dtype_, queue()));
  sums_->create({});
  small_->fill_inputs();
}

void DeviceForecast::rehearse(double seconds) {
  Calibration& calibration = calibration_of(queue());
  if (!small_) open_rehearsal();
  Program& program = small_->program();
  const VectorsOfCall vectors{parameters_, parameters_, sums_, false};
  next_ = calibration.time_steps(program, small_->bindings(vectors), next_, seconds);
  if (next_ < program.step_count()) return;
  small_costs_ = costs_of(program.graph(), program.plan());
  for (const Step& step : program.plan().steps) {
    const StepTime* time = calibration.find(signature_of(program.graph(), step, dtype_, precision_));
    small_times_.push_back(time ? *time : StepTime{});
  }
  small_.reset();
  sums_.reset();
  rehearsed_ = true;
}

// Each step's time on the small batch, times what the rates make of the two batches' costs: weights are as large in
// both.
void DeviceForecast::add_up(ForecastNumbers& numbers) const {
  const bool alike = rehearsed_ && small_costs_.size() == costs_.size();
  std::vector<size_t> working;
  for (size_t i = 0; i < costs_.size(); ++i) {
    const double by_rates = seconds_by_rates(costs_[i], numbers.rates);
    numbers.seconds_by_rates += by_rates;
    const bool timed = alike && small_times_[i].seconds > 0 && small_costs_[i].kind == costs_[i].kind;
    numbers.seconds +=
        timed ? small_times_[i].seconds * by_rates / seconds_by_rates(small_costs_[i], numbers.rates) : by_rates;
  }
  for (const StepTime& time : small_times_) {
    working.resize(std::max(working.size(), time.working.size()), 0);
    for (size_t k = 0; k < time.working.size(); ++k) working[k] = std::max(working[k], time.working[k]);
  }
  for (size_t bytes : working) numbers.working += bytes;
}

ForecastNumbers DeviceForecast::measure(double seconds) {
  if (!planned_) plan();
  Calibration& calibration = calibration_of(queue());
  if (seconds > 0 && !rated_) {
    rated_ = calibration.measure_rates(dtype_, precision_);
  } else if (seconds > 0 && !rehearsed_) {
    rehearse(seconds);
  }
  ForecastNumbers numbers = numbers_;
  numbers.rates = calibration.rates(dtype_, precision_);
  numbers.done = rehearsed_;
  if (rated_) add_up(numbers);
  return numbers;
}

}  // namespace palimpsest
