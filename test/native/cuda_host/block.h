// Blocks of the pretend device: what the device language asks of the running block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>

#include "cuda_runtime_api.h"

struct uint3 {
  unsigned x, y, z;
};

// Of the thread that runs. One block runs at a time in the process.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace cuda_host {

int lane();  // in its warp

// Runs every thread of every block, in an order that changes from launch to launch: what depends on the order differs
// from run to run. Barriers that not all threads reach, shared memory beyond what was asked for and configurations that
// no device takes are errors.
cudaError_t run_grid(const cudaLaunchConfig_t& config, const std::function<void()>& body);
// Whether a device takes the configuration.
cudaError_t check_grid(const cudaLaunchConfig_t& config, const void* kernel);

void block_barrier(const std::source_location& at);
// Waits for the lanes of `mask` and gives what each brought; lanes that are not in it brought all ones.
const uint64_t* warp_exchange(unsigned mask, uint64_t brought, const std::source_location& at);

// Memory of the block, all ones before its first use, the same for every thread; one piece a key.
void* block_memory(const void* key, size_t bytes, size_t alignment);
void* dynamic_memory();

}  // namespace cuda_host
