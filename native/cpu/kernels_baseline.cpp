// The innermost loops for any processor: vectors of 16 bytes (SSE2, NEON).
#include "cpu/isa_kernels.h"

#define VECTOR_BYTES 16
#define TILE_ROWS 4
#define TILE_VECTORS 2

namespace palimpsest::cpu::baseline {
#include "cpu/isa_kernels.inc"
}

namespace palimpsest::cpu {
const IsaKernels* baseline_kernels() { return &baseline::table; }
}  // namespace palimpsest::cpu
