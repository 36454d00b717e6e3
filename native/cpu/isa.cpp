// Detection of the instruction set, and the choice among the kernels compiled for each.
#include "cpu/isa.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "core/error.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif

namespace palimpsest::cpu {
namespace {

constexpr const char* isa_names[] = {"baseline", "avx2", "avx512", "amx"};

#if defined(__x86_64__) && defined(__GNUC__)
// Intel's manual, CPUID leaf 7: AMX-BF16 and AMX-TILE in EDX, AVX512-BF16 in EAX of subleaf 1.
bool processor_has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d >> 22 & 1) == 0 || (d >> 24 & 1) == 0) return false;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1) != 0;
}
#endif

bool machine_has(Isa isa) {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  if (isa == Isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
  if (isa == Isa::amx) {
    static const bool has = machine_has(Isa::avx512) && processor_has_amx() && amx_granted();
    return has && amx_kernels_of_build() != nullptr;
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
  if (text == nullptr || *text == 0) return default_isa();
  for (const Isa isa : all_isas) {
    if (std::string(text) == isa_name(isa)) return isa < best_isa() ? isa : best_isa();
  }
  throw Error(
      ErrorCode::invalid_argument,
      "expected baseline, avx2, avx512 or amx in the environment variable PALIMPSEST_ISA, got " + std::string(text));
}

std::atomic<Isa>& isa_in_use() {
  static std::atomic<Isa> isa{isa_of_environment()};
  return isa;
}

}  // namespace

const char* isa_name(Isa isa) { return isa_names[static_cast<int>(isa)]; }

Isa best_isa() {
  static const Isa best = [] {
    Isa isa = Isa::baseline;
    for (const Isa better : all_isas) {
      if (kernels_of(better)) isa = better;
    }
    return isa;
  }();
  return best;
}

Isa default_isa() { return std::min(best_isa(), Isa::avx512); }

Isa current_isa() { return isa_in_use().load(std::memory_order_relaxed); }

void set_isa(Isa isa) {
  if (isa > best_isa()) {
    throw Error(ErrorCode::invalid_argument, std::string("expected an instruction set up to ") + isa_name(best_isa()) +
                                                 " on this machine, got " + isa_name(isa));
  }
  isa_in_use().store(isa, std::memory_order_relaxed);
}

const AmxKernels* amx_kernels() { return current_isa() == Isa::amx ? amx_kernels_of_build() : nullptr; }

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
