// Matrix products by cuBLASLt: row-major matrices are its column-major ones transposed, c^T = op(b)^T op(a)^T.
#include "cuda/cublas.h"

#include <array>
#include <map>
#include <mutex>

#include "core/error.h"
#include "cuda/cublas_api.h"

namespace palimpsest::cuda {

namespace {

constexpr size_t oldest = 120000;                         // 12.0
constexpr uint64_t workspace_bytes = uint64_t{32} << 20;  // what NVIDIA advises for Hopper

// How the library multiplies one shape; nothing where it does not.
struct Plan {
  bool taken = false;
  cublas::Operation operation = nullptr;
  cublas::Layout a = nullptr, b = nullptr, c = nullptr;
  cublas::Choice choice{};
};
using PlanKey = std::array<int64_t, 20>;

struct Cublas {
  Library library{{"cuBLASLt",
                   "PALIMPSEST_CUBLAS",
                   {"libcublasLt.so.13", "libcublasLt.so.12"},
                   {"nvidia/cu13/lib", "nvidia/cublas/lib"},
                   "pip install nvidia-cublas"}};
  cublas::Functions call{};
  std::mutex mutex;
  std::map<int, cublas::Handle> handles;  // of a device
  std::map<PlanKey, Plan> plans;

  Cublas() {
    library.load(call.get_version, "cublasLtGetVersion");
    library.load(call.get_status_string, "cublasLtGetStatusString");
    library.load(call.create, "cublasLtCreate");
    library.load(call.create_operation, "cublasLtMatmulDescCreate");
    library.load(call.set_operation, "cublasLtMatmulDescSetAttribute");
    library.load(call.destroy_operation, "cublasLtMatmulDescDestroy");
    library.load(call.create_layout, "cublasLtMatrixLayoutCreate");
    library.load(call.set_layout, "cublasLtMatrixLayoutSetAttribute");
    library.load(call.destroy_layout, "cublasLtMatrixLayoutDestroy");
    library.load(call.create_preference, "cublasLtMatmulPreferenceCreate");
    library.load(call.set_preference, "cublasLtMatmulPreferenceSetAttribute");
    library.load(call.destroy_preference, "cublasLtMatmulPreferenceDestroy");
    library.load(call.choose, "cublasLtMatmulAlgoGetHeuristic");
    library.load(call.multiply, "cublasLtMatmul");
    if (!library.is_open()) return;
    const size_t version = call.get_version();
    library.state().version = std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
                              std::to_string(version % 100);
    if (version < oldest) library.refuse("expected version 12.0 or later, found " + library.state().version);
  }

  // Null where the library cannot be started on the device, which then takes no part.
  cublas::Handle handle(int ordinal) {
    const auto found = handles.find(ordinal);
    if (found != handles.end()) return found->second;
    cublas::Handle handle = nullptr;
    const int status = call.create(&handle);
    if (status != cublas::success) library.refuse(std::string("cublasLtCreate: ") + call.get_status_string(status));
    return handles[ordinal] = handle;
  }

  Plan make_plan(cublas::Handle handle, const GemmShape& s, bool is_double, bool tf32, const int64_t (&aligned)[3]);
};

Cublas& cublas_library() {
  static Cublas* library = new Cublas;  // outlives whatever still multiplies at the end of the process
  return *library;
}

// The bytes that an address is aligned to, at most 256.
int64_t alignment_of(const void* data) {
  const auto address = reinterpret_cast<size_t>(data) | 256;
  return static_cast<int64_t>(address & (~address + 1));
}

Plan Cublas::make_plan(cublas::Handle handle, const GemmShape& s, bool is_double, bool tf32,
                       const int64_t (&aligned)[3]) {
  Plan plan;
  const int type = is_double ? cublas::real_64 : cublas::real_32;
  const int compute = is_double ? cublas::compute_64 : tf32 ? cublas::compute_32_tf32 : cublas::compute_32;
  int status = call.create_operation(&plan.operation, compute, type);
  const auto then = [&](auto step) {
    if (status == cublas::success) status = step();
  };
  // The library's first factor is b, its second a: their column-major matrices are ours transposed.
  const auto layout = [&](cublas::Layout* to, int64_t rows, int64_t columns, int64_t leading, int64_t stride) {
    then([&] {
      return call.create_layout(to, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), leading);
    });
    const auto count = static_cast<int32_t>(s.batch);
    then([&] { return call.set_layout(*to, cublas::batch_count, &count, sizeof count); });
    then([&] { return call.set_layout(*to, cublas::batch_stride, &stride, sizeof stride); });
  };
  layout(&plan.a, s.trans_b ? s.k : s.n, s.trans_b ? s.n : s.k, s.ldb, s.stride_b);
  layout(&plan.b, s.trans_a ? s.m : s.k, s.trans_a ? s.k : s.m, s.lda, s.stride_a);
  layout(&plan.c, s.n, s.m, s.ldc, s.stride_c);
  const int32_t transposed = cublas::transposed;
  const auto transpose = [&](bool wanted, int attribute) {
    if (wanted) then([&] { return call.set_operation(plan.operation, attribute, &transposed, sizeof transposed); });
  };
  transpose(s.trans_b, cublas::transpose_a);
  transpose(s.trans_a, cublas::transpose_b);

  cublas::Preference preference = nullptr;
  then([&] { return call.create_preference(&preference); });
  const auto prefer = [&](int attribute, auto value) {
    then([&] { return call.set_preference(preference, attribute, &value, sizeof value); });
  };
  prefer(cublas::most_workspace, workspace_bytes);
  prefer(cublas::reductions, cublas::sum_in_workspace);  // the same order of sums every time
  prefer(cublas::alignment_a, static_cast<uint32_t>(aligned[1]));
  prefer(cublas::alignment_b, static_cast<uint32_t>(aligned[0]));
  prefer(cublas::alignment_c, static_cast<uint32_t>(aligned[2]));
  prefer(cublas::alignment_d, static_cast<uint32_t>(aligned[2]));
  int found = 0;
  then([&] {
    return call.choose(handle, plan.operation, plan.a, plan.b, plan.c, plan.c, preference, 1, &plan.choice, &found);
  });
  if (preference != nullptr) call.destroy_preference(preference);
  plan.taken = status == cublas::success && found == 1 && plan.choice.status == cublas::success;
  return plan;
}

}  // namespace

template <class T>
bool cublas_gemm(Device& device, const GemmShape& s, const T* a, const T* b, T* c) {
  if (!libraries_used()) return false;
  Cublas& cublas = cublas_library();
  const std::lock_guard lock(cublas.mutex);
  if (!cublas.library.is_open() || s.batch > INT32_MAX) return false;
  cublas::Handle handle = cublas.handle(device.ordinal());
  if (!cublas.library.is_open()) return false;

  const bool tf32 = device.precision() == Precision::tf32;
  const int64_t aligned[] = {alignment_of(a), alignment_of(b), alignment_of(c)};
  const PlanKey key{device.ordinal(), sizeof(T),  tf32,       s.batch,    s.m,         s.n,        s.k,
                    s.trans_a,        s.trans_b,  s.lda,      s.ldb,      s.ldc,       s.stride_a, s.stride_b,
                    s.stride_c,       aligned[0], aligned[1], aligned[2], s.beta != 0, 0};
  auto found = cublas.plans.find(key);
  if (found == cublas.plans.end()) {
    found = cublas.plans.emplace(key, cublas.make_plan(handle, s, sizeof(T) == 8, tf32, aligned)).first;
  }
  Plan& plan = found->second;
  if (!plan.taken) return false;
  const T alpha = static_cast<T>(s.alpha), beta = static_cast<T>(s.beta);
  void* workspace = plan.choice.workspace == 0 ? nullptr : device.workspace(Slot::gemm_library, plan.choice.workspace);
  const int status =
      cublas.call.multiply(handle, plan.operation, &alpha, b, plan.a, a, plan.b, &beta, c, plan.c, c, plan.c,
                           &plan.choice.algorithm, workspace, plan.choice.workspace, device.stream());
  if (status == cublas::success) return true;
  if (status == cublas::not_supported) return plan.taken = false;
  throw Error(ErrorCode::device, std::string("cuBLASLt failed to multiply: ") + cublas.call.get_status_string(status) +
                                     "; PALIMPSEST_CUBLAS=none runs without it");
}

template bool cublas_gemm<float>(Device&, const GemmShape&, const float*, const float*, float*);
template bool cublas_gemm<double>(Device&, const GemmShape&, const double*, const double*, double*);

LibraryState cublas_state() {
  Cublas& cublas = cublas_library();
  const std::lock_guard lock(cublas.mutex);
  return cublas.library.state();
}

}  // namespace palimpsest::cuda
