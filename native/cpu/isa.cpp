// Detection of the instruction set, and the choice among the kernels compiled for each.
#include "cpu/isa.h"

#include <atomic>
#include <cstdlib>

#include "core/error.h"

namespace palimpsest::cpu {
namespace {

constexpr const char* isa_names[] = {"baseline", "avx2", "avx512"};

bool machine_has(Isa isa) {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  if (isa == Isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
#endif
  return isa == Isa::baseline;
}

const IsaKernels* kernels_of(Isa isa) {
  if (!machine_has(isa)) return nullptr;
  return isa == Isa::baseline ? baseline_kernels() : isa == Isa::avx2 ? avx2_kernels() : avx512_kernels();
}

Isa isa_of_environment() {
  const char* text = std::getenv("PALIMPSEST_ISA");
  if (text == nullptr || *text == 0) return best_isa();
  for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (std::string(text) == isa_name(isa)) return isa < best_isa() ? isa : best_isa();
  }
  throw Error(ErrorCode::invalid_argument,
              "expected baseline, avx2 or avx512 in the environment variable PALIMPSEST_ISA, got " + std::string(text));
}

std::atomic<Isa>& isa_in_use() {
  static std::atomic<Isa> isa{isa_of_environment()};
  return isa;
}

}  // namespace

const char* isa_name(Isa isa) { return isa_names[static_cast<int>(isa)]; }

Isa best_isa() {
  static const Isa best = kernels_of(Isa::avx512) ? Isa::avx512 : kernels_of(Isa::avx2) ? Isa::avx2 : Isa::baseline;
  return best;
}

Isa current_isa() { return isa_in_use().load(std::memory_order_relaxed); }

void set_isa(Isa isa) {
  if (isa > best_isa()) {
    throw Error(ErrorCode::invalid_argument, std::string("expected an instruction set up to ") + isa_name(best_isa()) +
                                                 " on this machine, got " + isa_name(isa));
  }
  isa_in_use().store(isa, std::memory_order_relaxed);
}

const IsaKernels& kernels() { return *kernels_of(current_isa()); }

template <>
const TypedKernels<float>& typed_kernels<float>() {
  return kernels().f32;
}

template <>
const TypedKernels<double>& typed_kernels<double>() {
  return kernels().f64;
}

}  // namespace palimpsest::cpu
