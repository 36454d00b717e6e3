// The innermost loops for AVX-512 (F, BW, DQ, VL).
#include "cpu/isa_kernels.h"

#define VECTOR_BYTES 64
#define TILE_ROWS 14
#define TILE_VECTORS 2

namespace palimpsest::cpu::avx512 {
#include "cpu/isa_kernels.inc"
}

namespace palimpsest::cpu {
const IsaKernels* avx512_kernels() { return &avx512::table; }
}  // namespace palimpsest::cpu
