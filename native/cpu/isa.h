// Which instruction set the kernels use.
#pragma once

#include <string>

#include "cpu/amx_kernels.h"
#include "cpu/isa_kernels.h"

namespace palimpsest::cpu {

// amx: AVX-512's kernels, and products of float32 on tiles (cpu/amx_kernels.h).
enum class Isa { baseline, avx2, avx512, amx };
inline constexpr Isa all_isas[] = {Isa::baseline, Isa::avx2, Isa::avx512, Isa::amx};

const char* isa_name(Isa isa);

// The best set that this machine has and this build contains.
Isa best_isa();
// The best set that is never slower than a lesser one: a machine that limits power slows tiles down the most.
Isa default_isa();
// The set in use: default_isa(), or another where the environment variable PALIMPSEST_ISA (baseline, avx2, avx512, amx;
// read once) says so.
Isa current_isa();
// Of our own kernels; cpu::configure sets oneDNN's too. Throws ERR_INVALID_ARGUMENT where isa is above best_isa().
void set_isa(Isa isa);

// The kernels of the set in use.
const IsaKernels& kernels();

// Null where the set in use has none.
const AmxKernels* amx_kernels();

template <typename T>
const TypedKernels<T>& typed_kernels();

}  // namespace palimpsest::cpu
