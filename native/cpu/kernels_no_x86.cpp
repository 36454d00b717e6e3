// Stand-in for the x86 instruction sets on other processors: this build does not contain them.
#include "cpu/isa_kernels.h"

namespace palimpsest::cpu {
const IsaKernels* avx2_kernels() { return nullptr; }
const IsaKernels* avx512_kernels() { return nullptr; }
}  // namespace palimpsest::cpu
