// A kernel's row: what it costs by formula, how long it takes beside what it is compared with, in one run.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace palimpsest::bench {

struct Settings {
  std::string only;             // rows whose name holds it
  int repeats = 15;             // interleaved pairs, at least
  double seconds = 0.25;        // and at least so long
  bool processor_time = false;  // one thread, processor time
  bool json = false;
  bool tiny = false;  // the smallest shapes, to see that everything runs
};

// What runs beside the kernel in the same repetitions, and its cost in the same unit.
struct Reference {
  std::string name;
  double amount = 0;
  std::function<void()> run;
};

struct Row {
  std::string name, type;  // type: "f32 oneDNN", "f32 portable", "f64"
  std::string formula;     // of `amount`
  std::string unit;        // "GFLOP/s" or "GB/s"
  double amount = 0;       // FLOPs or bytes of one run
  double flops = 0, bytes = 0;
};

class Report {
 public:
  explicit Report(Settings settings) : settings_(std::move(settings)) {}

  const Settings& settings() const { return settings_; }
  bool wants(const Row& row) const;
  // Measures and prints; without a reference where it has no `run`.
  void measure(const Row& row, const std::function<void()>& run, const Reference& beside = {});

 private:
  double now() const;
  double seconds_of(const std::function<void()>& run) const;

  Settings settings_;
};

// Memory with some values in it: neither zeros nor numbers that kernels are slow on.
class Memory {
 public:
  Memory(DType dtype, Dims dims, Layout layout = Layout::row_major);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  operator const Tensor&() const { return tensor_; }
  const Tensor& tensor() const { return tensor_; }

 private:
  std::shared_ptr<Backend> backend_;
  Tensor tensor_;
};

struct Way {
  const char* name;
  DType dtype;
  bool onednn;
};
// f32 with oneDNN (where `libraries`, and where there is one), f32 without, f64.
void each_way(bool libraries, const std::function<void(const Way&)>& body);

// oneDNN's own primitive of the same shape in the layouts that it likes best, nothing reordered; empty where this build
// has no oneDNN or oneDNN no primitive.
enum class ConvPart { forward, input_gradient, weight_gradient };
std::function<void()> own_conv(ConvPart part, const ConvShape& shape);
std::function<void()> own_gemm(const GemmShape& shape);

void bench_matrix(Report& report, Backend& backend);
void bench_passes(Report& report, Backend& backend);

}  // namespace palimpsest::bench
