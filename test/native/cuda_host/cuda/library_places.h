// Stand-in for cuda/library_places.h: a library of the machine knows nothing of the emulator's memory, so that none is
// looked for. PALIMPSEST_CUBLAS=pretended and PALIMPSEST_CUDNN=pretended take those of pretend_libraries.h.
#pragma once

#include <string>
#include <vector>

#include "cuda/library.h"
#include "pretend_libraries.h"

namespace palimpsest::cuda {

inline std::vector<std::string> library_places(const LibraryNames&) { return {}; }

inline void* open_library(const std::string& place, std::string& failure) {
  static char pretended;
  if (place == "pretended") return &pretended;
  failure = place + ": the emulator opens no library";
  return nullptr;
}

inline void* library_function(void*, const char* name) {
  void* found = cuda_host::pretended_cublas_function(name);
  return found != nullptr ? found : cuda_host::pretended_cudnn_function(name);
}

}  // namespace palimpsest::cuda
