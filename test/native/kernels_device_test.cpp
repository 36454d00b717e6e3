// The CPU as a device: its name, memory, threads, instruction sets and refusals.
#include <cstdint>
#include <cstring>

#include "backend/backend.h"
#include "check.h"
#include "core/parallel.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/threads.h"

using namespace palimpsest;

TEST(the_cpu_is_one_instance_and_other_devices_are_refused) {
  const std::shared_ptr<Backend> backend = open_backend("cpu");
  CHECK(backend == open_backend("cpu"));
  CHECK(backend->name() == "cpu");
  CHECK(backend->description().find(cpu::isa_name(cpu::current_isa())) != std::string::npos);
  CHECK_THROWS(ErrorCode::device, open_backend("gpu"));
  CHECK_THROWS(ErrorCode::device, open_backend(""));
}

TEST(memory_is_aligned_and_its_end_is_an_error) {
  const std::shared_ptr<Backend> backend = open_backend("cpu");
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{100000}}) {
    void* data = backend->allocate(bytes);
    CHECK(data != nullptr && reinterpret_cast<uintptr_t>(data) % 64 == 0);
    backend->release(data);
  }
  for (const size_t bytes : {SIZE_MAX, SIZE_MAX - 63, SIZE_MAX / 2, size_t{1} << 46}) {
    try {
      backend->release(backend->allocate(bytes));
      CHECK(false);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::out_of_memory);
      CHECK(std::string(error.what()).find(std::to_string(bytes)) != std::string::npos);
    }
  }
  backend->release(nullptr);
}

TEST(working_memory_grows_and_stays) {
  using cpu::Slot;
  auto* small = cpu::workspace<float>(Slot::reduction, 10);
  CHECK(cpu::workspace<float>(Slot::reduction, 5) == small);
  auto* large = cpu::workspace<float>(Slot::reduction, 1 << 20);
  large[(1 << 20) - 1] = 1;
  CHECK(cpu::workspace<float>(Slot::reduction, 1 << 19) == large);
  CHECK(reinterpret_cast<uintptr_t>(large) % 64 == 0);
}

TEST(a_large_block_that_is_released_serves_again) {
  constexpr size_t bytes = (size_t{3} << 20) + 64;
  void* first = cpu::allocate_aligned(bytes);
  std::memset(first, 1, bytes);
  void* other = cpu::allocate_aligned(bytes);
  CHECK(other != first);
  cpu::release_aligned(first);
  void* larger = cpu::allocate_aligned(2 * bytes);
  CHECK(larger != first);
  void* again = cpu::allocate_aligned(bytes);
  CHECK(again == first);
  CHECK(reinterpret_cast<uintptr_t>(again) % 64 == 0);
  std::memset(again, 2, bytes);
  for (void* block : {again, other, larger}) cpu::release_aligned(block);
  CHECK_THROWS(ErrorCode::out_of_memory, cpu::allocate_aligned(size_t{1} << 62));
  CHECK_THROWS(ErrorCode::out_of_memory, cpu::allocate_aligned(~size_t{0}));
}

TEST(the_team_covers_every_index_once) {
  const int before = cpu::thread_count();
  for (const int threads : {1, 2, 3, 7}) {
    cpu::set_threads(threads);
    CHECK(cpu::thread_count() == threads);
    CHECK(parallel_threads().load() == threads);  // the engine's own loops too
    for (const int64_t count : {0, 1, 2, 5, 1000}) {
      std::vector<int> visits(static_cast<size_t>(count), 0);
      cpu::parallel_for(count, 1e9, [&](int64_t begin, int64_t end, int thread) {
        if (thread < 0 || thread >= threads) throw Error(ErrorCode::internal, "expected a thread of the team");
        for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
      });
      bool once = true;
      for (const int n : visits) once &= n == 1;
      CHECK(once);
    }
  }
  CHECK_THROWS(ErrorCode::internal, cpu::parallel_for(10, 1e9, [](int64_t, int64_t, int) {
                 throw Error(ErrorCode::internal, "thrown in a team");
               }));
  cpu::set_threads(0);
  CHECK(cpu::thread_count() >= 1);
  CHECK(cpu::available_threads() >= 1);
  CHECK_THROWS(ErrorCode::invalid_argument, cpu::set_threads(-1));
  cpu::set_threads(before);
}

TEST(the_instruction_set_can_be_forced_down) {
  const cpu::Isa before = cpu::current_isa();
  cpu::set_isa(cpu::Isa::baseline);
  CHECK(cpu::current_isa() == cpu::Isa::baseline);
  cpu::set_isa(before);
  CHECK(cpu::current_isa() <= cpu::best_isa());
  for (const cpu::Isa isa : cpu::all_isas) {
    if (isa > cpu::best_isa()) CHECK_THROWS(ErrorCode::invalid_argument, cpu::set_isa(isa));
  }
}

TEST(shapes_and_types_that_do_not_fit_are_refused) {
  const std::shared_ptr<Backend> backend = open_backend("cpu");
  float x[64] = {};
  int32_t index[16] = {};
  const Tensor a = dense_tensor(x, DType::f32, {4, 4}), wide = dense_tensor(x, DType::f64, {2, 4});
  const Tensor whole = dense_tensor(index, DType::i32, {4, 4});
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
  conv.groups = 1, conv.stride_h = 0;
  CHECK_THROWS(ErrorCode::shape, backend->conv(conv, a, a, a));
  conv.stride_h = 1, conv.n = 2;
  CHECK_THROWS(ErrorCode::shape, backend->conv(conv, a, a, a));
  CHECK_THROWS(ErrorCode::shape, backend->copy(a, dense_tensor(x, DType::f32, {4, 3})));
  CHECK_THROWS(ErrorCode::shape, backend->softmax(a, 2, a));
  CHECK_THROWS(ErrorCode::shape, backend->reduce_sum(a, dense_tensor(x, DType::f32, {4, 2}), 1));
  CHECK_THROWS(ErrorCode::invalid_argument, backend->dot(a, whole));
  CHECK_THROWS(ErrorCode::shape, backend->dot(a, dense_tensor(x, DType::f32, {15})));
  CHECK_THROWS(ErrorCode::invalid_argument, backend->sgd_step({0.1, 0.9, 0, false}, a, {}, a));
}
