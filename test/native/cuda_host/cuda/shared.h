// Stand-in for cuda/shared.h: a block's shared memory on the heap, where the address sanitizer sees its ends.
#pragma once

#include "block.h"

namespace palimpsest::cuda {

template <class T>
T& block_shared() {
  static const char key = 0;
  return *static_cast<T*>(cuda_host::block_memory(&key, sizeof(T), alignof(T)));
}

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(cuda_host::dynamic_memory());
}

}  // namespace palimpsest::cuda
