// The innermost loops for AVX2 with FMA.
#include "cpu/isa_kernels.h"

#define VECTOR_BYTES 32
#define TILE_ROWS 6
#define TILE_VECTORS 2

namespace palimpsest::cpu::avx2 {
#include "cpu/isa_kernels.inc"
}

namespace palimpsest::cpu {
const IsaKernels* avx2_kernels() { return &avx2::table; }
}  // namespace palimpsest::cpu
