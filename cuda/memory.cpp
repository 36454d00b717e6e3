// The caching allocator.
#include "cuda/memory.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "cuda/errors.h"

namespace palimpsest::cuda {

namespace {

constexpr size_t alignment = 256;
constexpr size_t large = size_t{1} << 20;

// Sizes are rounded so that blocks of nearly one size can stand for each other: an eighth of their power of two above
// 1 MiB, 256 bytes below.
size_t rounded(size_t bytes) {
  size_t step = alignment;
  if (bytes > large) {
    size_t power = large;
    while (power <= bytes / 2) power *= 2;
    step = power / 8;
  }
  return std::max(alignment, (bytes + step - 1) / step * step);
}

[[noreturn]] void refuse(size_t bytes, size_t used) {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  throw Error(ErrorCode::out_of_memory, "expected " + std::to_string(bytes) + " bytes of device memory, got " +
                                            std::to_string(free) + " free of " + std::to_string(total) +
                                            " (this process uses " + std::to_string(used) +
                                            "); a smaller batch needs less, dispose() gives memory back");
}

[[noreturn]] void refuse_by_limit(size_t bytes, size_t used, size_t limit) {
  throw Error(ErrorCode::out_of_memory, "expected " + std::to_string(bytes) + " bytes of device memory, got " +
                                            std::to_string(used < limit ? limit - used : 0) + " free of the limit of " +
                                            std::to_string(limit) +
                                            "; a smaller batch needs less, dispose() gives memory back");
}

}  // namespace

Memory::~Memory() { trim(); }

void* Memory::allocate(size_t bytes) {
  const std::lock_guard<std::mutex> hold(mutex_);
  if (bytes > static_cast<size_t>(-1) / 2) refuse(bytes, used_);
  const size_t size = rounded(bytes);
  if (limit_ > 0 && (used_ > limit_ || size > limit_ - used_)) refuse_by_limit(bytes, used_, limit_);
  void* data = take_kept(size);
  if (data == nullptr) {
    cudaError_t status = cudaMalloc(&data, size);
    if (status == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      give_back_kept();
      status = cudaMalloc(&data, size);
    }
    if (status == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      refuse(bytes, used_);
    }
    check(status, "allocating device memory");
  }
  try {
    sizes_[data] = size;
  } catch (...) {
    cudaFree(data);
    throw;
  }
  used_ += size;
  peak_ = std::max(peak_, used_);
  return data;
}

void* Memory::take_kept(size_t bytes) {
  const auto found = free_.find(bytes);
  if (found == free_.end()) return nullptr;
  void* data = found->second;
  free_.erase(found);
  kept_ -= bytes;
  return data;
}

void Memory::release(void* data) noexcept {
  if (data == nullptr) return;
  const std::lock_guard<std::mutex> hold(mutex_);
  const auto found = sizes_.find(data);
  if (found == sizes_.end()) return;
  const size_t size = found->second;
  sizes_.erase(found);
  used_ -= size;
  if (kept_ + size <= most_kept_) {
    try {
      free_.emplace(size, data);
      kept_ += size;
      return;
    } catch (...) {
      // Without memory for the note the block goes back.
    }
  }
  cudaFree(data);  // waits for the kernels that may still use it
}

void Memory::trim() noexcept {
  const std::lock_guard<std::mutex> hold(mutex_);
  give_back_kept();
}

void Memory::give_back_kept() noexcept {
  for (const auto& [size, data] : free_) cudaFree(data);
  free_.clear();
  kept_ = 0;
}

size_t Memory::used() const {
  const std::lock_guard<std::mutex> hold(mutex_);
  return used_;
}

size_t Memory::kept() const {
  const std::lock_guard<std::mutex> hold(mutex_);
  return kept_;
}

size_t Memory::peak() const {
  const std::lock_guard<std::mutex> hold(mutex_);
  return peak_;
}

void Memory::reset_peak() {
  const std::lock_guard<std::mutex> hold(mutex_);
  peak_ = used_;
}

size_t Memory::limit() const {
  const std::lock_guard<std::mutex> hold(mutex_);
  return limit_;
}

void Memory::set_limit(size_t bytes) {
  const std::lock_guard<std::mutex> hold(mutex_);
  limit_ = bytes;
}

}  // namespace palimpsest::cuda
