// Uploads beside running kernels: a ring of pinned pieces and of their copies on the device.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>

#include "cuda/memory.h"

namespace palimpsest::cuda {

// A piece on its way: write to `host`, send(), start the kernels that read `device`, then done().
struct Piece {
  void* host = nullptr;
  void* device = nullptr;
  size_t bytes = 0;
  int slot = 0;
};

class Upload {
 public:
  Upload(Memory& memory, cudaStream_t stream);
  ~Upload();
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  // Waits until the piece before the last ones has been sent, not for the kernels that read it.
  Piece take(size_t bytes);
  void send(const Piece& piece);
  void done(const Piece& piece);

  // The most that a piece should have, so that the ring stays small.
  static constexpr size_t usual_bytes = size_t{8} << 20;

 private:
  struct Slot {
    void *host = nullptr, *device = nullptr;
    size_t bytes = 0;
    cudaEvent_t sent = nullptr;  // host may be written again
    cudaEvent_t read = nullptr;  // device may be written again
  };

  void grow(Slot& slot, size_t bytes);

  Memory& memory_;
  cudaStream_t stream_;            // of the kernels
  cudaStream_t copies_ = nullptr;  // of the uploads
  std::array<Slot, 4> ring_;
  int next_ = 0;
};

}  // namespace palimpsest::cuda
