// A device from its opening to its end.
#include "cuda/device.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "cuda/errors.h"
#include "cuda/upload.h"

namespace palimpsest::cuda {

namespace {

Properties properties_of(int ordinal) {
  cudaDeviceProp found;
  check(cudaGetDeviceProperties(&found, ordinal), "looking at the device");
  return {found.name,          found.major, found.minor, found.multiProcessorCount, found.sharedMemPerBlockOptin,
          found.totalGlobalMem};
}

// Throws before anything else touches a device that is not there.
Properties opened(int ordinal) {
  int count = 0;
  check(cudaGetDeviceCount(&count), "looking for devices");
  if (ordinal < 0 || ordinal >= count) {
    throw Error(ErrorCode::device, "expected a device below cuda:" + std::to_string(count) + ", got 'cuda:" +
                                       std::to_string(ordinal) + "'; devices() lists the devices there are");
  }
  check(cudaSetDevice(ordinal), "choosing the device");
  return properties_of(ordinal);
}

size_t most_kept(const Properties& properties) { return std::min(size_t{1} << 30, properties.total_bytes / 32); }

template <class T>
void allocate_mapped(T** host, T** device) {
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, sizeof(T), cudaHostAllocMapped), "allocating pinned memory");
  *host = static_cast<T*>(memory);
  **host = T(0);
  void* address = nullptr;
  check(cudaHostGetDevicePointer(&address, memory, 0), "mapping pinned memory");
  *device = static_cast<T*>(address);
}

}  // namespace

Device::Device(int ordinal) : ordinal_(ordinal), properties_(opened(ordinal)), memory_(most_kept(properties_)) {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream");
  upload_ = std::make_unique<Upload>(memory_, stream_);
  allocate_mapped(&host_faults_, &device_faults_);
  allocate_mapped(&host_number_, &device_number_);
}

Device::~Device() {
  cudaSetDevice(ordinal_);
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  upload_.reset();
  for (void* data : workspaces_) memory_.release(data);
  if (host_faults_ != nullptr) cudaFreeHost(host_faults_);
  if (host_number_ != nullptr) cudaFreeHost(host_number_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

MemoryUse Device::memory_use() const {
  activate();
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free memory");
  MemoryUse use{memory_.used(), memory_.peak(), free + memory_.kept(), memory_.limit()};
  if (use.limit > 0) use.free = std::min(use.free, use.limit - std::min(use.limit, use.held));
  return use;
}

void Device::activate() const { check(cudaSetDevice(ordinal_), "choosing the device"); }

void* Device::workspace(Slot slot, size_t bytes) {
  const size_t at = static_cast<size_t>(slot);
  asked_[at] = std::max(asked_[at], bytes);
  if (workspaces_[at] != nullptr && workspace_bytes_[at] >= bytes) return workspaces_[at];
  memory_.release(workspaces_[at]);
  workspaces_[at] = nullptr;
  workspaces_[at] = memory_.allocate(std::max<size_t>(bytes, 1));
  workspace_bytes_[at] = bytes;
  return workspaces_[at];
}

void Device::copy_in(void* device, const void* host, size_t bytes) {
  activate();
  for (size_t sent = 0; sent < bytes;) {
    const size_t size = std::min(bytes - sent, Upload::usual_bytes);
    const Piece piece = upload_->take(size);
    std::memcpy(piece.host, static_cast<const char*>(host) + sent, size);
    upload_->send(piece);
    check(cudaMemcpyAsync(static_cast<char*>(device) + sent, piece.device, size, cudaMemcpyDeviceToDevice, stream_),
          "placing an upload");
    upload_->done(piece);
    sent += size;
  }
}

void Device::copy_out(void* host, const void* device, size_t bytes) {
  activate();
  if (bytes > 0) {
    check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_), "reading device memory");
  }
  synchronize();
}

void Device::synchronize() {
  activate();
  check(cudaStreamSynchronize(stream_), "waiting for the device");
  throw_faults();
}

double Device::wait_for_number() {
  synchronize();
  return *static_cast<volatile double*>(host_number_);
}

void Device::throw_faults() {
  if (*static_cast<volatile int32_t*>(host_faults_) == 0) return;
  *host_faults_ = 0;
  throw Error(ErrorCode::invalid_argument, "expected indices within their axis, got one beyond it on " +
                                               std::string("cuda:") + std::to_string(ordinal_));
}

std::string describe(const Device& device) {
  const Properties& p = device.properties();
  return p.name + ", compute capability " + std::to_string(p.major) + "." + std::to_string(p.minor) + ", " +
         std::to_string(p.total_bytes >> 20) + " MiB";
}

}  // namespace palimpsest::cuda
