// Streams and events: every stream is a list of works, of marks for events and of waits for such marks. Works run as
// late as they may, when somebody waits for them, but for some that are picked by chance: so a copy may read the host's
// memory long after the call that asked for it, and overtake whatever it was not told to wait for.
#include "streams.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>

struct CUevent_st {
  uint64_t asked = 0, reached = 0;  // marks
  CUstream_st* stream = nullptr;    // of the last mark
};

namespace {

struct Item {
  cuda_host::StreamWork work;  // or, where there is none, a mark of an event, or a wait for one
  CUevent_st* event = nullptr;
  uint64_t mark = 0;
  bool waits = false;
};

}  // namespace

struct CUstream_st {
  std::deque<Item> items;
  bool running = false;
};

namespace cuda_host {

namespace {

struct Streams {
  std::set<CUstream_st*> all;
  std::map<const char*, size_t> pinned;
  cudaError_t failure = cudaSuccess;
  Traffic traffic;
  uint64_t chance = 0x9E3779B97F4A7C15ull;
};

// Guarded by the device's lock.
Streams& streams() {
  static Streams* all = new Streams;
  return *all;
}

bool blocked(const Item& item) { return item.waits && item.event->reached < item.mark; }

// The first item of a stream that is not blocked.
void run_one(CUstream_st& stream) {
  Item item = std::move(stream.items.front());
  stream.items.pop_front();
  if (item.work) {
    const cudaError_t status = item.work();
    if (status != cudaSuccess && streams().failure == cudaSuccess) streams().failure = status;
  } else if (!item.waits) {
    item.event->reached = std::max(item.event->reached, item.mark);
  }
}

void run_until(CUevent_st& event, uint64_t mark);

void drain(CUstream_st& stream) {
  while (!stream.items.empty()) {
    const Item& next = stream.items.front();
    if (blocked(next)) run_until(*next.event, next.mark);
    else run_one(stream);
  }
}

void run_until(CUevent_st& event, uint64_t mark) {
  CUstream_st* stream = event.stream;
  while (event.reached < mark && stream != nullptr && !stream->items.empty()) {
    const Item& next = stream->items.front();
    if (blocked(next)) run_until(*next.event, next.mark);
    else run_one(*stream);
  }
}

void drain_all() {
  for (CUstream_st* stream : streams().all) drain(*stream);
}

cudaError_t failure() {
  const cudaError_t status = streams().failure;
  streams().failure = cudaSuccess;
  return status;
}

CUstream_st& stream_of(cudaStream_t stream) {
  static CUstream_st* legacy = new CUstream_st;
  return stream == nullptr ? *legacy : *stream;
}

// Some works of some streams, none, or all that is not blocked of one.
void run_by_chance() {
  Streams& all = streams();
  all.chance = all.chance * 6364136223846793005ull + 1442695040888963407ull;
  const uint64_t drawn = all.chance >> 33;
  if (all.all.empty() || drawn % 4 == 0) return;
  auto at = all.all.begin();
  std::advance(at, static_cast<std::ptrdiff_t>(drawn / 4 % all.all.size()));
  uint64_t left = drawn % 4 == 1 ? drawn / 64 % 4 : ~uint64_t{0};
  if (drawn % 4 == 2) return;
  for (; left > 0 && !(*at)->items.empty() && !blocked((*at)->items.front()); --left) run_one(**at);
}

bool is_pinned(const void* data) {
  const auto after = streams().pinned.upper_bound(static_cast<const char*>(data));
  if (after == streams().pinned.begin()) return false;
  const auto& [start, bytes] = *std::prev(after);
  return static_cast<const char*>(data) < start + bytes;
}

}  // namespace

cudaError_t enqueue(cudaStream_t stream, StreamWork work) {
  const OnDevice on_device;
  if (cudaError_t status = failure(); status != cudaSuccess) return status;
  stream_of(stream).items.push_back({std::move(work)});
  run_by_chance();
  return cudaSuccess;
}

Traffic traffic() {
  const OnDevice on_device;
  return streams().traffic;
}
void note_launch() {
  const OnDevice on_device;
  ++streams().traffic.launches;
}

}  // namespace cuda_host

using namespace cuda_host;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const OnDevice on_device;
  streams().all.insert(*stream = new CUstream_st);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const OnDevice on_device;
  drain(*stream);
  streams().all.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const OnDevice on_device;
  ++streams().traffic.waits;
  drain(stream_of(stream));
  return failure();
}
cudaError_t cudaDeviceSynchronize() {
  const OnDevice on_device;
  ++streams().traffic.waits;
  drain_all();
  return failure();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = new CUevent_st, cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const OnDevice on_device;
  drain_all();
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const OnDevice on_device;
  event->stream = &stream_of(stream);
  event->stream->items.push_back({{}, event, ++event->asked, false});
  run_by_chance();
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const OnDevice on_device;
  if (event->asked > 0) stream_of(stream).items.push_back({{}, event, event->asked, true});
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const OnDevice on_device;
  if (event->reached < event->asked) ++streams().traffic.waits;
  run_until(*event, event->asked);
  return failure();
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const OnDevice on_device;
  return event->reached < event->asked ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  return *milliseconds = 0, cudaSuccess;
}

// Pinned memory is read and written when the copy runs; other host memory before the call returns, as the driver does.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const OnDevice on_device;
  Traffic& seen = streams().traffic;
  seen.uploads += kind == cudaMemcpyHostToDevice;
  seen.downloads += kind == cudaMemcpyDeviceToHost;
  const auto copy = [to, from, bytes] {
    if (bytes > 0) std::memmove(to, from, bytes);
    return cudaSuccess;
  };
  if (kind == cudaMemcpyHostToDevice && !is_pinned(from)) {
    const auto staged = std::make_shared<std::string>(static_cast<const char*>(from), bytes);
    return enqueue(stream, [to, staged] { return std::memcpy(to, staged->data(), staged->size()), cudaSuccess; });
  }
  const cudaError_t status = enqueue(stream, copy);
  if (status != cudaSuccess || kind != cudaMemcpyDeviceToHost || is_pinned(to)) return status;
  drain(stream_of(stream));
  return failure();
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const OnDevice on_device;
  drain_all();
  const cudaError_t status = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  drain(stream_of(nullptr));
  return status;
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  return enqueue(stream, [=] {
    if (bytes > 0) std::memset(data, value, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaMemset(void* data, int value, size_t bytes) {
  const cudaError_t status = cudaMemsetAsync(data, value, bytes, nullptr);
  const OnDevice on_device;
  drain_all();
  drain(stream_of(nullptr));
  return status;
}

cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  const OnDevice on_device;
  *data = std::malloc(bytes == 0 ? 1 : bytes);
  if (*data == nullptr) return set_last(cudaErrorMemoryAllocation, "out of memory");
  streams().pinned[static_cast<char*>(*data)] = bytes == 0 ? 1 : bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* data) {
  const OnDevice on_device;
  drain_all();
  streams().pinned.erase(static_cast<char*>(data));
  std::free(data);
  return cudaSuccess;
}
