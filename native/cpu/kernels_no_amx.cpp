// Stand-in for AMX on other processors, systems and compilers: this build does not contain it.
#include "cpu/amx_kernels.h"

namespace palimpsest::cpu {
const AmxKernels* amx_kernels_of_build() { return nullptr; }
bool amx_granted() { return false; }
}  // namespace palimpsest::cpu
