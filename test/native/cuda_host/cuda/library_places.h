// Stand-in for cuda/library_places.h: a library of the machine knows nothing of the emulator's memory, so that none is
// looked for; PALIMPSEST_CUBLAS and PALIMPSEST_CUDNN may name one that does.
#pragma once

#include <string>
#include <vector>

#include "cuda/library.h"

namespace palimpsest::cuda {

inline std::vector<std::string> library_places(const LibraryNames&) { return {}; }

}  // namespace palimpsest::cuda
