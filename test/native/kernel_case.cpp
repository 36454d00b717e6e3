// Guarded tensors, and the comparison of a kernel call with the oracle.
#include "kernel_case.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "cpu/isa.h"
#include "cpu/onednn.h"
#include "cpu/threads.h"
#include "oracle.h"
#include "tested_device.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, bytes) (static_cast<void>(data), static_cast<void>(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(data, bytes) (static_cast<void>(data), static_cast<void>(bytes))
#endif

namespace palimpsest::check {
namespace {

constexpr size_t guard = 256;
constexpr unsigned char guard_byte = 0xA5;

double half_epsilon(DType dtype) {
  return dtype == DType::f32 ? std::numeric_limits<float>::epsilon() / 2 : std::numeric_limits<double>::epsilon() / 2;
}

double read(const Tensor& t, int64_t offset) {
  if (t.dtype == DType::i32) return t.as<int32_t>()[offset];
  return t.dtype == DType::f32 ? static_cast<double>(t.as<float>()[offset]) : t.as<double>()[offset];
}

template <class Visit>
void for_offsets(const Dims& dims, const Dims& strides, Visit visit) {
  const int64_t count = element_count(dims);
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i, offset = 0;
    for (size_t axis = dims.size(); axis-- > 0;) {
      offset += rest % dims[axis] * strides[axis];
      rest /= dims[axis];
    }
    visit(offset);
  }
}

std::vector<double> read_all(const Tensor& t) {
  std::vector<double> values;
  for_offsets(t.dims, t.strides, [&](int64_t offset) { values.push_back(read(t, offset)); });
  return values;
}

// One way to run a case.
struct Way {
  DType dtype;
  cpu::Isa isa;
  bool onednn;
  int threads;

  std::string name() const {
    return std::string(dtype == DType::f32 ? "f32 " : "f64 ") + cpu::isa_name(isa) + (onednn ? " oneDNN" : "") +
           (threads == 1 ? " 1 thread" : "");
  }
};

// Sets the process to a way, and back.
class InWay {
 public:
  explicit InWay(const Way& way)
      : isa_(cpu::current_isa()), onednn_(cpu::onednn_enabled()), threads_(cpu::thread_count()) {
    cpu::set_isa(way.isa);
    cpu::set_onednn_enabled(way.onednn);
    cpu::set_threads(way.threads);
  }
  ~InWay() {
    cpu::set_isa(isa_);
    cpu::set_onednn_enabled(onednn_);
    cpu::set_threads(threads_);
  }

 private:
  cpu::Isa isa_;
  bool onednn_;
  int threads_;
};

std::vector<Way> ways(bool libraries) {
  std::vector<Way> all;
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const cpu::Isa isa : cpu::all_isas) {
      const bool same = isa == cpu::Isa::amx && dtype == DType::f64;  // as AVX-512
      if (isa <= cpu::best_isa() && !same) all.push_back({dtype, isa, false, 3});
    }
  }
  for (const DType dtype : {DType::f32, DType::f64}) all.push_back({dtype, cpu::default_isa(), false, 1});
  if (libraries && !cpu::onednn_version().empty()) all.push_back({DType::f32, cpu::default_isa(), true, 2});
  return all;
}

// The largest error as a share of what is allowed, and where it is.
struct Worst {
  double share = 0;
  size_t at = 0;
};

Worst compare(const std::vector<double>& actual, const Stage::Result& expected, const std::vector<double>& magnitudes) {
  Worst worst;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double a = actual[i], e = expected.values[i];
    if (a == e || (std::isnan(a) && std::isnan(e))) continue;
    const Allowance& allow = expected.allowance;
    const double unit = half_epsilon(expected.dtype);
    double allowed = 0;
    if (allow.kind == Allowance::exact) allowed = unit * std::abs(e);
    if (allow.kind == Allowance::magnitudes) allowed = unit * allow.units * magnitudes[i];
    if (allow.kind == Allowance::relative) allowed = unit * allow.units * (std::abs(e) + allow.floor);
    if (allow.kind == Allowance::rounded) {
      allowed = 1.01 * unit * std::abs(e) + allow.units * half_epsilon(DType::f64) * magnitudes[i];
    }
    // Below the normal numbers an error is absolute.
    if (expected.dtype == DType::f32) allowed += 4 * std::numeric_limits<float>::denorm_min();
    if (expected.integers) allowed = 0;
    const double error = std::abs(a - e);
    const double share = std::isnan(error) ? INFINITY : error / std::max(allowed, std::numeric_limits<double>::min());
    if (share > worst.share) worst = {share, i};
  }
  return worst;
}

std::vector<Stage::Result> oracle_results(const Call& call, bool magnitudes) {
  OracleBackend oracle;
  Stage stage(DType::f64, magnitudes);
  call(oracle, stage);
  stage.check_untouched("oracle");
  return stage.results();
}

void check_results(const std::vector<Stage::Result>& actual, std::vector<Stage::Result> expected,
                   const std::vector<Stage::Result>& magnitudes, bool telling) {
  CHECK(actual.size() == expected.size() && !actual.empty());
  for (size_t r = 0; r < actual.size(); ++r) {
    expected[r].dtype = actual[r].dtype;
    const Worst worst = compare(actual[r].values, expected[r], magnitudes[r].values);
    if (worst.share > 1) {
      failed(__FILE__, __LINE__,
             "result " + std::to_string(r) + " element " + std::to_string(worst.at) + " of " +
                 std::to_string(actual[r].values.size()) + ": got " + std::to_string(actual[r].values[worst.at]) +
                 ", expected " + std::to_string(expected[r].values[worst.at]) + ", error " +
                 std::to_string(worst.share) + " x what is allowed");
    } else {
      passed();
    }
    if (!telling || expected[r].values.empty() || expected[r].integers) continue;
    check_telling(expected[r].values.data(), expected[r].values.size(), "result " + std::to_string(r));
    // The comparison must see a thousandth of the largest value.
    Stage::Result perturbed = expected[r];
    double& largest = *std::max_element(perturbed.values.begin(), perturbed.values.end(), [](double a, double b) {
      return (std::isfinite(a) ? std::abs(a) : -1) < (std::isfinite(b) ? std::abs(b) : -1);
    });
    largest *= 1.01;
    CHECK_CAN_FAIL(std::isfinite(largest) && compare(actual[r].values, perturbed, magnitudes[r].values).share <= 1);
  }
}

// What the oracle says, and what it says on the magnitudes of all inputs.
struct Expected {
  std::vector<Stage::Result> values, magnitudes;

  explicit Expected(const Call& call) : values(oracle_results(call, false)) {
    bool by_magnitudes = false;
    for (const Stage::Result& result : values) by_magnitudes |= result.allowance.kind >= Allowance::magnitudes;
    magnitudes = by_magnitudes ? oracle_results(call, true) : values;
  }
};

void run_device_case(const Call& call, DType dtype, bool telling) {
  const std::shared_ptr<Backend> backend = tested_backend();
  const Expected expected(call);
  std::vector<unsigned char> bits;
  for (int run = 0; run < 2; ++run) {
    Stage stage(dtype, false, backend.get());
    call(*backend, stage);
    stage.fetch();
    stage.check_untouched("run " + std::to_string(run));
    if (run == 0) {
      bits = stage.bits();
      check_results(stage.results(), expected.values, expected.magnitudes, telling);
    } else {
      CHECK(bits == stage.bits());
    }
  }
}

void run_case(const Call& call, const Way& way, bool telling) {
  const Expected expected(call);
  const InWay in_way(way);
  const std::shared_ptr<Backend> backend = open_backend("cpu");
  std::vector<unsigned char> bits;
  for (int run = 0; run < 2; ++run) {
    Stage stage(way.dtype, false);
    call(*backend, stage);
    stage.check_untouched("run " + std::to_string(run));
    if (run == 0) {
      bits = stage.bits();
      check_results(stage.results(), expected.values, expected.magnitudes, telling);
    } else {
      CHECK(bits == stage.bits());
    }
  }
  if (way.onednn) return;
  // The portable kernels give the same bits on any number of threads.
  cpu::set_threads(way.threads == 1 ? 4 : 1);
  Stage stage(way.dtype, false);
  call(*backend, stage);
  CHECK(bits == stage.bits());
}

}  // namespace

Dims strides_of(const Dims& dims, Layout layout) { return dense_strides(dims, layout); }

double Stage::next_value(const InputValues& values) {
  double value;
  if (!values.values.empty()) {
    value = values.values[turn_++ % values.values.size()];
  } else {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    value = values.low + (values.high - values.low) * static_cast<double>(state_ >> 40) / static_cast<double>(1 << 24);
  }
  // Every run sees float32 values, so that only the arithmetic differs.
  value = static_cast<float>(value);
  return magnitudes_ ? std::abs(value) : value;
}

DType Stage::own(DType dtype) const { return dtype_ == DType::f64 && dtype == DType::f32 ? DType::f64 : dtype; }

Tensor Stage::place(DType dtype, const Dims& dims, const Dims& strides, const InputValues* values, bool writes) {
  int64_t extent = element_count(dims) > 0 ? 1 : 0;
  for (size_t axis = 0; axis < dims.size() && extent > 0; ++axis) extent += (dims[axis] - 1) * strides[axis];
  auto buffer = std::make_unique<Buffer>();
  const size_t bytes = static_cast<size_t>(extent) * size_of(dtype);
  buffer->bytes.assign(bytes + 2 * guard + 64, guard_byte);
  buffer->may_change.assign(buffer->bytes.size(), false);
  // Odd tensors start off the cache line: kernels may not count on more than an element's alignment.
  const size_t misplaced = buffers_.size() % 2 == 0 ? 0 : size_of(dtype);
  const size_t address = device_ != nullptr ? 0 : reinterpret_cast<size_t>(buffer->bytes.data()) + guard;
  buffer->start = guard + (64 - address % 64) % 64 + misplaced;

  Tensor tensor{buffer->bytes.data() + buffer->start, dtype, dims, strides};
  for_offsets(dims, strides, [&](int64_t offset) {
    unsigned char* at = buffer->bytes.data() + buffer->start + offset * static_cast<int64_t>(size_of(dtype));
    if (writes) std::fill_n(buffer->may_change.begin() + (at - buffer->bytes.data()), size_of(dtype), true);
    if (values == nullptr) {
      if (dtype != DType::i32) std::memset(at, 0xFF, size_of(dtype));  // a NaN
      return;
    }
    const double value = next_value(*values);
    if (dtype == DType::f32) tensor.as<float>()[offset] = static_cast<float>(value);
    if (dtype == DType::f64) tensor.as<double>()[offset] = value;
    if (dtype == DType::i32) tensor.as<int32_t>()[offset] = static_cast<int32_t>(std::abs(value));
  });
  buffer->before = buffer->bytes;
  unsigned char* all = buffer->bytes.data();
  if (device_ != nullptr) {
    buffer->on_device = static_cast<unsigned char*>(device_->allocate(buffer->bytes.size()));
    tensor.data = buffer->on_device + buffer->start;
    device_->copy_in(buffer->on_device, all, buffer->bytes.size());
    all = buffer->on_device;
  }
  // Under the address sanitizer reading a guard fails too.
  ASAN_POISON_MEMORY_REGION(all, buffer->start);
  ASAN_POISON_MEMORY_REGION(all + buffer->start + bytes, buffer->bytes.size() - buffer->start - bytes);
  buffers_.push_back(std::move(buffer));
  return tensor;
}

Stage::~Stage() {
  for (const auto& buffer : buffers_) {
    if (buffer->on_device == nullptr) continue;
    ASAN_UNPOISON_MEMORY_REGION(buffer->on_device, buffer->bytes.size());
    device_->release(buffer->on_device);
  }
}

void Stage::fetch() {
  for (const auto& buffer : buffers_) {
    ASAN_UNPOISON_MEMORY_REGION(buffer->on_device, buffer->bytes.size());
    device_->copy_out(buffer->bytes.data(), buffer->on_device, buffer->bytes.size());
    for (Output& output : outputs_) {
      if (output.tensor.data == buffer->on_device + buffer->start) {
        output.tensor.data = buffer->bytes.data() + buffer->start;
      }
    }
  }
}

Tensor Stage::input(const Dims& dims, const Dims& strides, const InputValues& values) {
  return place(dtype_, dims, strides, &values, false);
}
Tensor Stage::input(const Dims& dims, Layout layout, const InputValues& values) {
  return input(dims, strides_of(dims, layout), values);
}
Tensor Stage::index_input(const Dims& dims, const Dims& strides, int64_t below) {
  const InputValues values{0, static_cast<double>(below) - 0.01, {}};
  return place(DType::i32, dims, strides, &values, false);
}
Tensor Stage::output(const Dims& dims, const Dims& strides, Allowance allowance) {
  outputs_.push_back({place(dtype_, dims, strides, nullptr, true), allowance});
  return outputs_.back().tensor;
}
Tensor Stage::output(const Dims& dims, Allowance allowance, Layout layout) {
  return output(dims, strides_of(dims, layout), allowance);
}
Tensor Stage::index_output(const Dims& dims, const Dims& strides) {
  outputs_.push_back({place(DType::i32, dims, strides, nullptr, true), {}});
  return outputs_.back().tensor;
}
Tensor Stage::changed(const Dims& dims, const Dims& strides, Allowance allowance, const InputValues& values) {
  outputs_.push_back({place(dtype_, dims, strides, &values, true), allowance});
  return outputs_.back().tensor;
}
Tensor Stage::in_place(const Tensor& x, Allowance allowance) {
  for (const auto& buffer : buffers_) {
    if ((device_ != nullptr ? buffer->on_device : buffer->bytes.data()) + buffer->start != x.data) continue;
    for_offsets(x.dims, x.strides, [&](int64_t offset) {
      std::fill_n(buffer->may_change.begin() + static_cast<int64_t>(buffer->start) +
                      offset * static_cast<int64_t>(size_of(x.dtype)),
                  size_of(x.dtype), true);
    });
  }
  outputs_.push_back({x, allowance});
  return x;
}
void Stage::number(double value, Allowance allowance, DType dtype) {
  numbers_.push_back({{value}, allowance, false, dtype});
}
Tensor Stage::input_of(DType dtype, const Dims& dims) {
  const InputValues values;
  return place(own(dtype), dims, strides_of(dims, Layout::row_major), &values, false);
}
Tensor Stage::changed_of(DType dtype, const Dims& dims, Allowance allowance) {
  const InputValues values;
  outputs_.push_back({place(own(dtype), dims, strides_of(dims, Layout::row_major), &values, true), allowance});
  return outputs_.back().tensor;
}

std::vector<Stage::Result> Stage::results() const {
  std::vector<Result> all;
  for (const Output& output : outputs_) {
    all.push_back({read_all(output.tensor), output.allowance, output.tensor.dtype == DType::i32, output.tensor.dtype});
  }
  all.insert(all.end(), numbers_.begin(), numbers_.end());
  return all;
}

std::vector<unsigned char> Stage::bits() const {
  std::vector<unsigned char> all;
  for (const Output& output : outputs_) {
    for_offsets(output.tensor.dims, output.tensor.strides, [&](int64_t offset) {
      const auto* at = static_cast<const unsigned char*>(output.tensor.data) +
                       offset * static_cast<int64_t>(size_of(output.tensor.dtype));
      all.insert(all.end(), at, at + size_of(output.tensor.dtype));
    });
  }
  for (const Result& number : numbers_) {
    const auto* at = reinterpret_cast<const unsigned char*>(number.values.data());
    all.insert(all.end(), at, at + sizeof(double));
  }
  return all;
}

void Stage::check_untouched(const std::string& where) const {
  for (size_t b = 0; b < buffers_.size(); ++b) {
    const Buffer& buffer = *buffers_[b];
    ASAN_UNPOISON_MEMORY_REGION(buffer.bytes.data(), buffer.bytes.size());
    for (size_t i = 0; i < buffer.bytes.size(); ++i) {
      if (buffer.may_change[i] || buffer.bytes[i] == buffer.before[i]) continue;
      failed(__FILE__, __LINE__,
             where + ": tensor " + std::to_string(b) + " was written at byte " +
                 std::to_string(static_cast<long long>(i) - static_cast<long long>(buffer.start)));
      return;
    }
  }
  passed();
}

void add_kernel_case(const std::string& name, Call call, bool libraries, bool telling) {
  if (tested_device() != "cpu") {
    for (const DType dtype : {DType::f32, DType::f64}) {
      add_test(name + " / " + tested_device() + (dtype == DType::f32 ? " f32" : " f64"),
               [call, dtype, telling] { run_device_case(call, dtype, telling); });
    }
    return;
  }
  for (const Way& way : ways(libraries)) {
    add_test(name + " / " + way.name(), [call, way, telling] { run_case(call, way, telling); });
  }
}

}  // namespace palimpsest::check
