// One CUDA device of the process: its stream, memory, working memory, uploads, and what it is.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "cuda/memory.h"

namespace palimpsest::cuda {

class Upload;

struct Properties {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  size_t shared_bytes_per_block = 0;  // with cudaFuncSetAttribute, which launch() calls
  size_t total_bytes = 0;
};

// All kernels run on one stream, in order; calls come from the thread of the device's step queue, but for copy_out,
// allocate and release, which any thread may call.
class Device {
 public:
  // Throws ERR_DEVICE with cause and cure where there is no such device.
  explicit Device(int ordinal);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  int ordinal() const { return ordinal_; }
  cudaStream_t stream() const { return stream_; }
  const Properties& properties() const { return properties_; }
  Memory& memory() { return memory_; }
  MemoryUse memory_use() const;

  // Whether float32 products may round their factors to TF32; asked by gemm, conv and squares.
  Precision precision() const { return precision_; }
  void set_precision(Precision precision) { precision_ = precision; }

  // Makes the device current on the calling thread.
  void activate() const;

  // At least `bytes` of device memory, 256-byte aligned, valid until the next call with this slot; kernels that are
  // queued may still use the last one, since the stream keeps their order.
  void* workspace(Slot slot, size_t bytes);
  template <class T>
  T* workspace(Slot slot, int64_t count) {
    return static_cast<T*>(workspace(slot, static_cast<size_t>(count) * sizeof(T)));
  }
  // Starts to note, by slot, the working memory that kernels ask for; and what they asked for since.
  void watch_workspaces() { asked_.fill(0); }
  std::vector<size_t> watched_workspaces() const { return {asked_.begin(), asked_.end()}; }

  // Host memory that may change or go once the call is over, uploaded beside the kernels that still run.
  void copy_in(void* device, const void* host, size_t bytes);
  // For kernels that read what the host has just made (indices, rows of a dataset).
  Upload& upload() { return *upload_; }
  // Waits for the stream, then gives the values.
  void copy_out(void* host, const void* device, size_t bytes);
  void synchronize();

  // Kernels that meet an index out of its range skip it and set this word; the next synchronisation throws.
  int32_t* faults() const { return device_faults_; }

  // A number that a kernel writes for the host: its address on the device, and its value after what is queued.
  double* number() const { return device_number_; }
  double wait_for_number();

 private:
  void throw_faults();

  int ordinal_;
  Properties properties_;
  Memory memory_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<Upload> upload_;
  int32_t *host_faults_ = nullptr, *device_faults_ = nullptr;
  double *host_number_ = nullptr, *device_number_ = nullptr;
  Precision precision_ = Precision::float32;
  std::array<void*, static_cast<size_t>(Slot::count_)> workspaces_{};
  std::array<size_t, static_cast<size_t>(Slot::count_)> workspace_bytes_{}, asked_{};
};

// Name, compute capability, memory, versions and libraries, for a person.
std::string describe(const Device& device);

}  // namespace palimpsest::cuda
