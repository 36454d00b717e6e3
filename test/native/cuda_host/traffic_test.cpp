// What the CUDA backend asks of the device beside its kernels: when it waits, what travels, and memory that is refused.
#include <vector>

#include "backend/in_precision.h"
#include "check.h"
#include "cuda/library.h"
#include "streams.h"
#include "tested_device.h"

using namespace palimpsest;
using namespace palimpsest::check;

namespace {

// Floats on the device.
class Vector {
 public:
  explicit Vector(int64_t count) : count_(count) {
    data_ = tested_backend()->allocate(static_cast<size_t>(count) * sizeof(float));
  }
  ~Vector() { tested_backend()->release(data_); }
  Vector(const Vector&) = delete;
  Vector& operator=(const Vector&) = delete;

  operator Tensor() const { return dense_tensor(data_, DType::f32, {count_}); }
  Tensor as(Dims dims) const { return dense_tensor(data_, DType::f32, std::move(dims)); }
  void write(const std::vector<float>& values) const {
    tested_backend()->copy_in(data_, values.data(), values.size() * sizeof(float));
  }
  std::vector<float> read() const {
    std::vector<float> values(static_cast<size_t>(count_));
    tested_backend()->copy_out(values.data(), data_, values.size() * sizeof(float));
    return values;
  }

 private:
  int64_t count_;
  void* data_;
};

struct Asked {
  size_t waits, uploads, downloads, launches;
  friend bool operator==(const Asked&, const Asked&) = default;
};
template <class Work>
Asked asked_by(Work work) {
  const cuda_host::Traffic before = cuda_host::traffic();
  work();
  const cuda_host::Traffic after = cuda_host::traffic();
  return {after.waits - before.waits, after.uploads - before.uploads, after.downloads - before.downloads,
          after.launches - before.launches};
}

// The emulator's device, whose traffic is counted.
Backend& counted_backend() {
  about_the_device();
  if (tested_device().rfind("cuda", 0) != 0) throw Unavailable{"the emulator's device was not asked for"};
  return *tested_backend();
}

}  // namespace

// One iteration of conjugate gradient around the product: vectors stay, a scalar comes back for each dot.
TEST(steps_of_a_solver_leave_their_vectors_on_the_device) {
  Backend& backend = counted_backend();
  const Vector x(1000), r(1000), p(1000), q(1000);
  for (const Vector* each : {&x, &r, &p, &q}) backend.fill(*each, 0.5);
  backend.dot(p, q);  // working memory
  const Asked steps = asked_by([&] {
    backend.axpy(0.25, p, x);
    backend.axpy(-0.25, q, r);
    backend.scale(0.5, p);
    backend.axpy(1, r, p);
    backend.copy(r, q);
  });
  CHECK((steps == Asked{0, 0, 0, 5}));
  double product = 0;
  CHECK((asked_by([&] { product = backend.dot(p, p); }) == Asked{1, 0, 0, 2}));
  CHECK(product == 1000 * 0.625 * 0.625);
}

// What a batch needs is queued behind the batch before, which nobody waits for.
TEST(batches_travel_while_others_are_computed) {
  Backend& backend = counted_backend();
  const int64_t rows = 24, width = 40;
  const Vector batch(rows * width), weights(width * width), made(rows * width), sum(rows * width);
  std::vector<float> values(static_cast<size_t>(rows * width));
  backend.fill(weights, 1);
  GemmShape product;
  product.m = rows, product.n = product.k = product.lda = product.ldb = product.ldc = width;
  const auto step = [&](float value) {
    std::fill(values.begin(), values.end(), value);
    batch.write(values);
    std::fill(values.begin(), values.end(), -1e9f);
    backend.gemm(product, batch.as({rows, width}), weights.as({width, width}), made.as({rows, width}));
    backend.add_into(made, sum);
  };
  backend.fill(sum, 0);
  for (int i = 0; i < 4; ++i) step(0);  // pieces of the ring
  const Asked three = asked_by([&] {
    for (const float value : {1.0f, 2.0f, 3.0f}) step(value);
  });
  CHECK(three.waits <= 3 && three.uploads == 3 && three.downloads == 0);
  CHECK(sum.read() == std::vector<float>(static_cast<size_t>(rows * width), 6.0f * width));
}

// Batch after batch through the same few pinned pieces, in any order that streams allow.
TEST(uploads_are_neither_lost_nor_overtaken) {
  Backend& backend = counted_backend();
  const Vector small(700), large(20000), sum(700), large_sum(20000);
  backend.fill(sum, 0);
  backend.fill(large_sum, 0);
  std::vector<float> values;
  for (int i = 1; i <= 200; ++i) {
    const bool is_large = i % 7 == 0;
    values.assign(is_large ? 20000 : 700, static_cast<float>(i));
    (is_large ? large : small).write(values);
    values.assign(values.size(), -1e9f);
    backend.add_into(is_large ? large : small, is_large ? large_sum : sum);
  }
  float of_small = 0, of_large = 0;
  for (int i = 1; i <= 200; ++i) (i % 7 == 0 ? of_large : of_small) += static_cast<float>(i);
  CHECK(sum.read() == std::vector<float>(700, of_small));
  CHECK(large_sum.read() == std::vector<float>(20000, of_large));
}

TEST(memory_that_is_refused_is_an_error_and_no_more) {
  Backend& backend = counted_backend();
  const size_t held = backend.memory_use().held, odd = (size_t{3} << 20) + 12345;
  cuda_host::refuse_allocations(2);  // the second try, after what was kept was given back, too
  try {
    backend.release(backend.allocate(odd));
    CHECK(false);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::out_of_memory);
    const std::string said = error.what();
    CHECK(said.find(std::to_string(odd) + " bytes") != std::string::npos &&
          said.find(" free of ") != std::string::npos);
  }
  cuda_host::refuse_allocations(1);  // what was kept helps
  void* data = backend.allocate(odd);
  backend.release(data);
  CHECK(backend.memory_use().held == held);
}

// 1 + 2^-12 has more bits than TF32 keeps.
TEST(a_precision_ends_with_what_asked_for_it) {
  Backend& backend = counted_backend();
  const bool before = cuda::use_libraries(false);
  const int64_t n = 8;
  const Vector a(n * n), b(n * n), c(n * n);
  const float value = 1 + 0x1p-12f;
  std::vector<float> identity(n * n, 0.0f);
  for (size_t i = 0; i < n; ++i) identity[i * n + i] = 1;
  a.write(std::vector<float>(n * n, value));
  b.write(identity);
  GemmShape product;
  product.m = product.n = product.k = product.lda = product.ldb = product.ldc = n;
  const auto multiplied = [&] {
    backend.gemm(product, a.as({n, n}), b.as({n, n}), c.as({n, n}));
    return c.read()[0];
  };
  CHECK(multiplied() == value);
  {
    const InPrecision in(backend, Precision::tf32);
    CHECK(multiplied() == 1.0f);
  }
  CHECK(multiplied() == value);
  cuda::use_libraries(before);
}
