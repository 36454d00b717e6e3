// What every device must do with memory, copies and errors, through the kernel table alone.
#include <cstdint>
#include <numeric>

#include "check.h"
#include "tested_device.h"

using namespace palimpsest;
using namespace palimpsest::check;

namespace {

// Memory of the tested device for `count` floats.
class Floats {
 public:
  explicit Floats(size_t count) : count_(count), data_(tested_backend()->allocate(count * sizeof(float))) {}
  ~Floats() { tested_backend()->release(data_); }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;

  Tensor tensor(Dims dims) const { return dense_tensor(data_, DType::f32, std::move(dims)); }
  void write(const std::vector<float>& values) const {
    tested_backend()->copy_in(data_, values.data(), values.size() * sizeof(float));
  }
  std::vector<float> read() const {
    std::vector<float> values(count_);
    tested_backend()->copy_out(values.data(), data_, count_ * sizeof(float));
    return values;
  }

 private:
  size_t count_;
  void* data_;
};

std::vector<float> counting(size_t count, float first) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

}  // namespace

TEST(device_memory_is_aligned_and_its_end_is_an_error) {
  const std::shared_ptr<Backend> backend = tested_backend();
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{100000}}) {
    void* data = backend->allocate(bytes);
    CHECK(data != nullptr && reinterpret_cast<uintptr_t>(data) % 64 == 0);
    backend->release(data);
  }
  for (const size_t bytes : {SIZE_MAX, SIZE_MAX / 2, size_t{1} << 46}) {
    try {
      backend->release(backend->allocate(bytes));
      CHECK(false);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::out_of_memory);
      CHECK(std::string(error.what()).find(std::to_string(bytes)) != std::string::npos);
    }
  }
  // It works as before.
  const Floats after(5);
  after.write(counting(5, 1));
  CHECK(after.read() == counting(5, 1));
  backend->release(nullptr);
}

TEST(memory_is_counted_and_limited) {
  const std::shared_ptr<Backend> backend = tested_backend();
  const size_t bytes = size_t{4} << 20, before = backend->memory_use().held;
  {
    const Floats a(bytes / sizeof(float));
    const MemoryUse use = backend->memory_use();
    CHECK(use.held >= before + bytes && use.held <= before + bytes + bytes / 8 + 4096);
    CHECK(use.peak >= use.held && use.free > 0);
  }
  CHECK(backend->memory_use().held == before && backend->memory_use().peak >= before + bytes);
  backend->reset_peak();
  CHECK(backend->memory_use().peak == before);
  backend->limit_memory(before + bytes / 2);
  CHECK(backend->memory_use().limit == before + bytes / 2 && backend->memory_use().free <= bytes / 2);
  CHECK_THROWS(ErrorCode::out_of_memory, backend->release(backend->allocate(bytes)));
  backend->limit_memory(0);
  const Floats after(bytes / sizeof(float));
  after.write(counting(bytes / sizeof(float), 1));
  CHECK(after.read() == counting(bytes / sizeof(float), 1));
}

// Longer than any piece that an upload may be cut into, and an odd number of bytes.
TEST(copies_of_any_size_arrive_whole) {
  for (const size_t count : {size_t{1}, size_t{1000}, size_t{5} << 20, (size_t{5} << 20) + 1}) {
    const Floats memory(count);
    const std::vector<float> values = counting(count, 0.5f);
    memory.write(values);
    CHECK(memory.read() == values);
  }
}

// The host's memory is free again when copy_in returns, and later copies do not overtake kernels.
TEST(copies_keep_their_order_with_kernels) {
  const size_t count = 3000;
  const Floats x(count), sum(count);
  const Dims dims{static_cast<int64_t>(count)};
  tested_backend()->fill(sum.tensor(dims), 0);
  for (int i = 0; i < 20; ++i) {
    std::vector<float> values(count, static_cast<float>(i));
    x.write(values);
    std::fill(values.begin(), values.end(), -1e9f);
    tested_backend()->add_into(x.tensor(dims), sum.tensor(dims));
  }
  CHECK(sum.read() == std::vector<float>(count, 190.0f));
}

// Memory goes round: rounds of allocation and release take no more than the first.
TEST(a_thousand_rounds_of_memory_leak_nothing) {
  const size_t held = tested_backend()->memory_use().held;
  size_t free = 0;  // after the first rounds, when what is kept has been allocated
  for (int round = 0; round < 1000; ++round) {
    const Floats a(10 + static_cast<size_t>(round) % 7), b(size_t{1} << 18);
    tested_backend()->fill(b.tensor({1 << 18}), round);
    CHECK(round % 100 != 0 || b.read().back() == static_cast<float>(round));
    if (round == 20) free = tested_backend()->memory_use().free;
  }
  CHECK(tested_backend()->memory_use().held == held);
  // Of the machine's memory others may take some meanwhile; a device of the tests' own loses nothing.
  CHECK(tested_device() == "cpu" || tested_backend()->memory_use().free >= free);
}

TEST(maxima_of_nan_are_the_first_nan) {
  const Floats x(8), y(2);
  void* index = tested_backend()->allocate(8);
  x.write({1, NAN, 5, NAN, -INFINITY, -INFINITY, NAN, 2});
  tested_backend()->reduce_max(x.tensor({2, 4}), 1, y.tensor({2, 1}), dense_tensor(index, DType::i32, {2, 1}));
  int32_t at[2];
  tested_backend()->copy_out(at, index, sizeof at);
  tested_backend()->release(index);
  const std::vector<float> values = y.read();
  CHECK(std::isnan(values[0]) && at[0] == 1);
  CHECK(std::isnan(values[1]) && at[1] == 2);
}

TEST(pooling_passes_nan_and_leaves_windows_of_pads_out) {
  const std::shared_ptr<Backend> backend = tested_backend();
  ConvShape s;
  s.n = 1, s.c = s.o = 1, s.h = 2, s.w = 2, s.oh = 2, s.ow = 1, s.kh = 1, s.kw = 2, s.stride_h = 2;
  const Floats x(4), y(2);
  void* memory = backend->allocate(8);
  const Tensor xt = x.tensor({1, 1, 2, 2}), yt = y.tensor({1, 1, 2, 1});
  const Tensor index = dense_tensor(memory, DType::i32, {1, 1, 2, 1});
  x.write({1, NAN, NAN, -INFINITY});
  backend->max_pool(s, xt, yt, index);  // the second window lies below the image
  int32_t at[2];
  backend->copy_out(at, memory, sizeof at);
  CHECK(at[0] == 1 && at[1] == -1);
  CHECK(std::isnan(y.read()[0]) && y.read()[1] == -INFINITY);
  backend->pool_gather(s, xt, index, yt);
  CHECK(std::isnan(y.read()[0]) && y.read()[1] == 0);
  y.write({3, 4});
  backend->pool_scatter(s, yt, index, xt);
  CHECK(x.read() == std::vector<float>({0, 3, 0, 0}));
  backend->release(memory);
}

// A device may tell of an index beyond its axis when it is next waited for; memory beyond the axis stays untouched.
TEST(indices_beyond_their_axis_are_told_of) {
  const std::shared_ptr<Backend> backend = tested_backend();
  const Floats x(6), y(2);
  x.write(counting(6, 0));
  y.write({1, 2});
  void* memory = backend->allocate(8);
  const int32_t beyond[] = {3, -1};
  backend->copy_in(memory, beyond, sizeof beyond);
  const Tensor whole = x.tensor({2, 3}), part = y.tensor({2, 1}), at = dense_tensor(memory, DType::i32, {2, 1});
  CHECK_THROWS(ErrorCode::invalid_argument, backend->take_along_axis(whole, at, 1, part); backend->synchronize());
  CHECK_THROWS(ErrorCode::invalid_argument, backend->put_along_axis(part, at, 1, whole); backend->synchronize());
  backend->synchronize();
  const int64_t indices[] = {3};
  CHECK_THROWS(ErrorCode::invalid_argument, backend->gather(whole, indices, 1, part));
  CHECK_THROWS(ErrorCode::invalid_argument, backend->scatter_add(part, indices, 1, whole));
  backend->release(memory);
}

TEST(shapes_and_types_that_do_not_fit_a_device_are_refused) {
  const std::shared_ptr<Backend> backend = tested_backend();
  const Floats x(64);
  const Tensor a = x.tensor({4, 4});
  Tensor wide = x.tensor({2, 4}), whole = a;
  wide.dtype = DType::f64, whole.dtype = DType::i32;
  GemmShape gemm;
  gemm.m = gemm.n = gemm.k = 4, gemm.lda = gemm.ldb = gemm.ldc = 4;
  CHECK_THROWS(ErrorCode::invalid_argument, backend->gemm(gemm, a, wide, a));
  CHECK_THROWS(ErrorCode::invalid_argument, backend->gemm(gemm, whole, whole, whole));
  gemm.ldb = 3;
  CHECK_THROWS(ErrorCode::shape, backend->gemm(gemm, a, a, a));
  ConvShape conv;
  conv.n = 1, conv.c = 4, conv.h = conv.w = 2, conv.o = 4, conv.oh = conv.ow = 2;
  CHECK_THROWS(ErrorCode::invalid_argument, backend->conv(conv, a, wide, a));
  conv.groups = 3;
  CHECK_THROWS(ErrorCode::shape, backend->conv(conv, a, a, a));
  CHECK_THROWS(ErrorCode::shape, backend->copy(a, x.tensor({4, 3})));
  CHECK_THROWS(ErrorCode::shape, backend->softmax(a, 2, a));
  CHECK_THROWS(ErrorCode::shape, backend->reduce_sum(a, x.tensor({4, 2}), 1));
  CHECK_THROWS(ErrorCode::invalid_argument, backend->dot(a, whole));
  CHECK_THROWS(ErrorCode::shape, backend->dot(a, x.tensor({15})));
  CHECK_THROWS(ErrorCode::invalid_argument, backend->sgd_step({0.1, 0.9, 0, false}, a, {}, a));
}
