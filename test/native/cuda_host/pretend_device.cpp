// The host interface over one pretend device of 256 MiB. Device memory is closed to the host now and then, while the
// device does not run, so that a host that reads it directly crashes here as it would on a GPU; under the address
// sanitizer it is heap.
#include "pretend_device.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

namespace cuda_host {

namespace {

constexpr size_t total = size_t{256} << 20;
constexpr size_t page = 4096;

struct Pretend {
  std::recursive_mutex mutex;
  int depth = 0;
  uint64_t calls = 0;
  bool open = true;
  char* base = nullptr;
  size_t high = 0, used = 0;
  std::map<char*, size_t> blocks;  // given out, by address
  std::map<const void*, size_t> limits;
  cudaError_t last = cudaSuccess;
  bool lost = false;
  std::string what;
  int refusals = 0;
};

Pretend& pretend() {
  static Pretend* device = new Pretend;
  return *device;
}

#ifdef __SANITIZE_ADDRESS__
constexpr bool closed_to_host = false;
#else
constexpr bool closed_to_host = true;
#endif

// Closing costs more than a small kernel, and the more the more memory there is: it happens after every sixteenth call,
// and after one more for every 64 KiB in use, which meets every kind of host code.
bool is_time_to_close(uint64_t calls, size_t used) { return calls % (16 + (used >> 16)) == 0; }

void set_open(bool open) {
  Pretend& device = pretend();
  device.open = open;
  if (closed_to_host && device.high > 0) {
    mprotect(device.base, device.high, open ? PROT_READ | PROT_WRITE : PROT_NONE);
  }
}

// Whole pages of a block that was freed go back to the system: opening and closing takes time for every page that has
// been touched.
void give_back(char* data, size_t bytes) {
  if (!closed_to_host || bytes < 16 * page) return;
  const size_t skipped = (page - static_cast<size_t>(data - pretend().base) % page) % page;
  madvise(data + skipped, (bytes - skipped) / page * page, MADV_DONTNEED);
}

// The lowest gap of the region that fits.
char* take(size_t bytes) {
  Pretend& device = pretend();
  if (!closed_to_host) return static_cast<char*>(std::aligned_alloc(256, bytes));
  if (device.base == nullptr) {
    void* region = mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED) return nullptr;
    device.base = static_cast<char*>(region);
  }
  char* at = device.base;
  for (const auto& [start, size] : device.blocks) {
    if (start - at >= static_cast<std::ptrdiff_t>(bytes)) break;
    at = start + size;
  }
  if (at + bytes > device.base + total) return nullptr;
  const size_t end = static_cast<size_t>(at + bytes - device.base);
  if (end > device.high) {
    device.high = (end + page - 1) / page * page;
    set_open(true);
  }
  return at;
}

}  // namespace

OnDevice::OnDevice() {
  pretend().mutex.lock();
  if (pretend().depth++ == 0 && !pretend().open) set_open(true);
}

OnDevice::~OnDevice() {
  if (--pretend().depth == 0 && is_time_to_close(++pretend().calls, pretend().used)) set_open(false);
  pretend().mutex.unlock();
}

cudaError_t set_last(cudaError_t status, const std::string& what) {
  Pretend& device = pretend();
  if (status == cudaSuccess) return status;
  device.last = status;
  device.what = what;
  return status;
}

size_t dynamic_limit(const void* kernel) {
  const auto found = pretend().limits.find(kernel);
  return found == pretend().limits.end() ? 48 * 1024 : found->second;
}

void refuse_allocations(int count) { pretend().refusals = count; }

}  // namespace cuda_host

using namespace cuda_host;

cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : set_last(cudaErrorInvalidDevice, "invalid device ordinal");
}
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return set_last(cudaErrorInvalidDevice, "invalid device ordinal");
  *properties = {"emulated on the CPU", total, 9, 0, 4, 48 * 1024, 227 * 1024};
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = 48 * 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 227 * 1024; break;
    case cudaDevAttrMultiProcessorCount: *value = 4; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
  }
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }

cudaError_t cudaMalloc(void** data, size_t bytes) {
  const OnDevice on_device;
  Pretend& device = pretend();
  const size_t whole = (bytes + 255) / 256 * 256;
  *data = nullptr;
  if (device.refusals > 0) return --device.refusals, set_last(cudaErrorMemoryAllocation, "out of memory");
  if (bytes == 0) return cudaSuccess;
  char* at = whole < bytes || device.used + whole > total ? nullptr : take(whole);
  if (at == nullptr) return set_last(cudaErrorMemoryAllocation, "out of memory");
  device.blocks[at] = whole;
  device.used += whole;
  std::memset(at, 0xFF, whole);
  *data = at;
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  static_cast<void>(cudaDeviceSynchronize());  // as a device does: what is queued may still use it
  const OnDevice on_device;
  Pretend& device = pretend();
  const auto found = device.blocks.find(static_cast<char*>(data));
  if (found == device.blocks.end()) return set_last(cudaErrorInvalidValue, "freed what was not allocated");
  const size_t bytes = found->second;
  device.used -= bytes;
  device.blocks.erase(found);
  if (!closed_to_host) std::free(data);
  give_back(static_cast<char*>(data), bytes);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* all) {
  const OnDevice on_device;
  *free = total - pretend().used;
  *all = total;
  return cudaSuccess;
}
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) { return *device = host, cudaSuccess; }

cudaError_t cudaGetLastError() {
  const cudaError_t last = pretend().last;
  pretend().last = cudaSuccess;
  return last;
}
cudaError_t cudaPeekAtLastError() { return pretend().last; }
const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    default: return "cudaErrorUnknown";
  }
}
const char* cudaGetErrorString(cudaError_t) { return pretend().what.c_str(); }

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value > 227 * 1024) return set_last(cudaErrorInvalidValue, "more shared memory than a block can have");
  pretend().limits[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {0, 32, 1024};
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads, size_t) {
  return *blocks = 2048 / threads, cudaSuccess;
}
