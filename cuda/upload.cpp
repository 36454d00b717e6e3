// Uploads: host to pinned memory, pinned to device memory on a stream of their own.
#include "cuda/upload.h"

#include <algorithm>

#include "cuda/errors.h"

namespace palimpsest::cuda {

Upload::Upload(Memory& memory, cudaStream_t stream) : memory_(memory), stream_(stream) {
  check(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking), "creating a stream for uploads");
  for (Slot& slot : ring_) {
    check(cudaEventCreateWithFlags(&slot.sent, cudaEventDisableTiming), "creating an event");
    check(cudaEventCreateWithFlags(&slot.read, cudaEventDisableTiming), "creating an event");
  }
}

Upload::~Upload() {
  if (copies_ != nullptr) cudaStreamSynchronize(copies_);
  for (Slot& slot : ring_) {
    if (slot.host != nullptr) cudaFreeHost(slot.host);
    memory_.release(slot.device);
    if (slot.sent != nullptr) cudaEventDestroy(slot.sent);
    if (slot.read != nullptr) cudaEventDestroy(slot.read);
  }
  if (copies_ != nullptr) cudaStreamDestroy(copies_);
}

void Upload::grow(Slot& slot, size_t bytes) {
  // The copy stream may still write the old memory for readers that come later on the other stream.
  check(cudaStreamSynchronize(copies_), "waiting for an upload");
  check(cudaStreamSynchronize(stream_), "waiting for the readers of an upload");
  if (slot.host != nullptr) cudaFreeHost(slot.host);
  memory_.release(slot.device);
  slot.host = slot.device = nullptr;
  slot.bytes = 0;
  const size_t size = std::max(bytes, std::min(usual_bytes, std::max<size_t>(2 * bytes, 64 * 1024)));
  slot.device = memory_.allocate(size);
  check(cudaHostAlloc(&slot.host, size, cudaHostAllocDefault), "allocating pinned memory");
  slot.bytes = size;
}

Piece Upload::take(size_t bytes) {
  const int at = next_;
  next_ = (next_ + 1) % static_cast<int>(ring_.size());
  Slot& slot = ring_[static_cast<size_t>(at)];
  check(cudaEventSynchronize(slot.sent), "waiting for an upload");
  if (bytes > slot.bytes) grow(slot, bytes);
  return {slot.host, slot.device, bytes, at};
}

void Upload::send(const Piece& piece) {
  const Slot& slot = ring_[static_cast<size_t>(piece.slot)];
  check(cudaStreamWaitEvent(copies_, slot.read, 0), "ordering an upload");
  check(cudaMemcpyAsync(piece.device, piece.host, piece.bytes, cudaMemcpyHostToDevice, copies_), "uploading");
  check(cudaEventRecord(slot.sent, copies_), "ordering an upload");
  check(cudaStreamWaitEvent(stream_, slot.sent, 0), "ordering an upload");
}

void Upload::done(const Piece& piece) {
  check(cudaEventRecord(ring_[static_cast<size_t>(piece.slot)].read, stream_), "ordering an upload");
}

}  // namespace palimpsest::cuda
