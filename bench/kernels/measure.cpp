// Medians of interleaved repetitions, as lines of a table or of JSON.
#include "measure.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>

#include "cpu/onednn.h"

namespace palimpsest::bench {

namespace {

struct Times {
  double median = 0, first = 0, third = 0;
};

Times summary(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  const auto at = [&](double share) {
    return times[static_cast<size_t>(share * static_cast<double>(times.size() - 1))];
  };
  return {at(0.5), at(0.25), at(0.75)};
}

}  // namespace

bool Report::wants(const Row& row) const {
  return (row.name + " " + row.type).find(settings_.only) != std::string::npos;
}

double Report::now() const {
  if (settings_.processor_time) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Report::seconds_of(const std::function<void()>& run) const {
  const double start = now();
  run();
  return now() - start;
}

void Report::measure(const Row& row, const std::function<void()>& run, const Reference& beside) {
  if (!wants(row)) return;
  run();
  if (beside.run) beside.run();
  // Short kernels are timed in blocks: a clock's tick and the switch to the other side would weigh on each.
  constexpr double block_seconds = 0.001;
  const double once = std::max(1e-7, std::min(seconds_of(run), seconds_of(run)));
  const int block = std::clamp(static_cast<int>(block_seconds / once), 1, 1000);
  const auto timed = [&](const std::function<void()>& body) {
    return seconds_of([&] {
             for (int i = 0; i < block; ++i) body();
           }) /
           block;
  };
  std::vector<double> times, others;
  double spent = 0;
  while (static_cast<int>(times.size()) < settings_.repeats || (spent < settings_.seconds && times.size() < 500)) {
    times.push_back(timed(run));
    spent += times.back() * block;
    if (!beside.run) continue;
    others.push_back(timed(beside.run));
    spent += others.back() * block;
  }
  const Times ours = summary(times);
  const double rate = row.amount / ours.median / 1e9;
  const double other = beside.run ? beside.amount / summary(others).median / 1e9 : 0;
  if (settings_.json) {
    std::printf(
        "{\"name\":\"%s\",\"type\":\"%s\",\"formula\":\"%s\",\"unit\":\"%s\",\"flops\":%.17g,\"bytes\":%.17g,"
        "\"amount\":%.17g,\"repeats\":%zu,\"median\":%.9g,\"quartiles\":[%.9g,%.9g],\"rate\":%.6g",
        row.name.c_str(), row.type.c_str(), row.formula.c_str(), row.unit.c_str(), row.flops, row.bytes, row.amount,
        times.size(), ours.median, ours.first, ours.third, rate);
    if (beside.run) std::printf(",\"beside\":{\"name\":\"%s\",\"rate\":%.6g}", beside.name.c_str(), other);
    std::printf("}\n");
  } else {
    std::printf("%-58s %-12s %8.1f %-7s %9.3f ms [%.3f, %.3f]", row.name.c_str(), row.type.c_str(), rate,
                row.unit.c_str(), ours.median * 1e3, ours.first * 1e3, ours.third * 1e3);
    if (beside.run) std::printf("  %3.0f %% of %s (%.1f)", 100 * rate / other, beside.name.c_str(), other);
    std::printf("\n");
  }
  std::fflush(stdout);
}

Memory::Memory(DType dtype, Dims dims, Layout layout) : backend_(open_backend("cpu")) {
  const int64_t count = element_count(dims);
  tensor_ = dense_tensor(backend_->allocate(static_cast<size_t>(count) * size_of(dtype)), dtype, dims, layout);
  for (int64_t i = 0; i < count; ++i) {
    const double value = static_cast<double>(i * 7919 % 1009) / 1009 - 0.5;
    if (dtype == DType::f32) tensor_.as<float>()[i] = static_cast<float>(value);
    if (dtype == DType::f64) tensor_.as<double>()[i] = value;
    if (dtype == DType::i32) tensor_.as<int32_t>()[i] = 0;
  }
}

Memory::~Memory() { backend_->release(tensor_.data); }

void each_way(bool libraries, const std::function<void(const Way&)>& body) {
  static const Way ways[] = {
      {"f32 oneDNN", DType::f32, true}, {"f32 portable", DType::f32, false}, {"f64", DType::f64, false}};
  const bool before = cpu::onednn_enabled();
  for (const Way& way : ways) {
    if (way.onednn && (!libraries || cpu::onednn_version().empty())) continue;
    cpu::set_onednn_enabled(way.onednn);
    body(way);
  }
  cpu::set_onednn_enabled(before);
}

}  // namespace palimpsest::bench
