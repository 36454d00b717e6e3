// Runs one kernel call on the oracle and on the tested device in every type (on the CPU: instruction set and library
// too), inside guard bytes and over poisoned outputs, twice bit for bit.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "check.h"

namespace palimpsest::check {

// How far a result may be from the oracle's, in units of half the type's epsilon.
struct Allowance {
  enum Kind {
    exact,       // the oracle's value, rounded
    relative,    // units x (|value| + floor)
    magnitudes,  // units x the result of the same call on the magnitudes of all inputs: right for sums of products
    rounded,     // one rounding of the value, and units x the magnitudes in units of float64: sums kept in float64
  } kind = exact;
  double units = 0, floor = 0;
};
inline Allowance sum_of(double terms) { return {Allowance::magnitudes, terms + 8, 0}; }
inline Allowance float64_sum_of(double terms) { return {Allowance::rounded, terms + 8, 0}; }
inline Allowance ulps(double units, double floor = 0) { return {Allowance::relative, units, floor}; }

// The values of an input: uniform in [low, high], or every `values` in turn.
struct InputValues {
  double low = -1, high = 1;
  std::vector<double> values;
};

// Hands a case its tensors in one run of it. The same calls in the same order give the same tensors in every run.
class Stage {
 public:
  // With a device the tensors lie in its memory: fetch() brings them back after the call.
  Stage(DType dtype, bool magnitudes, Backend* device = nullptr)
      : dtype_(dtype), magnitudes_(magnitudes), device_(device) {}
  ~Stage();
  Stage(const Stage&) = delete;

  Tensor input(const Dims& dims, const Dims& strides, const InputValues& values = {});
  Tensor input(const Dims& dims, Layout layout = Layout::row_major, const InputValues& values = {});
  Tensor index_input(const Dims& dims, const Dims& strides, int64_t below);  // i32 in [0, below)
  // Poisoned before the run; only its elements may change.
  Tensor output(const Dims& dims, const Dims& strides, Allowance allowance);
  Tensor output(const Dims& dims, Allowance allowance, Layout layout = Layout::row_major);
  Tensor index_output(const Dims& dims, const Dims& strides);
  // Holds values that the call reads and changes.
  Tensor changed(const Dims& dims, const Dims& strides, Allowance allowance, const InputValues& values = {});
  // An output in the memory of an earlier tensor of this stage.
  Tensor in_place(const Tensor& x, Allowance allowance);
  void number(double value, Allowance allowance, DType dtype = DType::f64);  // dtype: the precision it was computed in
  // float32 whatever the run's type (the oracle sees float64).
  Tensor input_of(DType dtype, const Dims& dims);
  Tensor changed_of(DType dtype, const Dims& dims, Allowance allowance);

  DType dtype() const { return dtype_; }
  bool magnitudes() const { return magnitudes_; }  // this run is on the magnitudes of all inputs
  void fetch();

  struct Result {
    std::vector<double> values;
    Allowance allowance;
    bool integers = false;
    DType dtype = DType::f64;
  };
  std::vector<Result> results() const;
  std::vector<unsigned char> bits() const;               // of all results
  void check_untouched(const std::string& where) const;  // guards, gaps and inputs

 private:
  struct Buffer {
    std::vector<unsigned char> bytes, before;
    std::vector<bool> may_change;
    size_t start = 0;
    unsigned char* on_device = nullptr;  // the same bytes there
  };
  struct Output {
    Tensor tensor;
    Allowance allowance;
  };

  Tensor place(DType dtype, const Dims& dims, const Dims& strides, const InputValues* values, bool writes);
  double next_value(const InputValues& values);
  DType own(DType dtype) const;

  DType dtype_;
  bool magnitudes_;
  Backend* device_;
  uint64_t state_ = 0x9E3779B97F4A7C15ull;
  size_t turn_ = 0;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<Output> outputs_;
  std::vector<Result> numbers_;
};

using Call = std::function<void(Backend&, Stage&)>;

// Adds the tests of one kernel call: f32 and f64, every instruction set, with oneDNN too where `libraries`.
// `telling` mistrusts a call whose results are mostly zeros.
void add_kernel_case(const std::string& name, Call call, bool libraries = false, bool telling = true);

Dims strides_of(const Dims& dims, Layout layout);

}  // namespace palimpsest::check
