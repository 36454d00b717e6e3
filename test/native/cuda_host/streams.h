// Streams of the pretend device: work that is queued and runs later, in any order that streams and events allow.
#pragma once

#include <functional>

#include "pretend_device.h"

namespace cuda_host {

// What a stream does in its turn; a failure is met by whoever waits next.
using StreamWork = std::function<cudaError_t()>;

// Queues work. Some of what waits, of this stream or another, may run at once: which differs from call to call.
cudaError_t enqueue(cudaStream_t stream, StreamWork work);

// What has been asked of the device since the process began.
struct Traffic {
  size_t waits = 0;      // of the host for a stream, an event or the device
  size_t uploads = 0;    // copies from the host
  size_t downloads = 0;  // copies to the host
  size_t launches = 0;   // of kernels
};
Traffic traffic();
void note_launch();

}  // namespace cuda_host
