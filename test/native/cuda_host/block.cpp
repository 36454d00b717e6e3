// Runs blocks: fibers for threads, barriers that find out who does not come, shared memory full of NaN.
#include "block.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <numeric>
#include <string>
#include <vector>

#include "fiber.h"
#include "pretend_device.h"

uint3 threadIdx{}, blockIdx{};
dim3 blockDim, gridDim;

namespace cuda_host {

namespace {

using Place = std::source_location;

std::string text(const Place& at) {
  const std::string file = at.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(at.line());
}
bool same(const Place& a, const Place& b) {
  return a.line() == b.line() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

enum class Wait { nothing, block, warp, done };

struct Lane {
  uint3 index{};
  int number = 0;  // in the block
  Fiber fiber;
  Wait wait = Wait::nothing;
  Place at;
};

struct Warp {
  unsigned arrived = 0, mask = 0;
  Place at;
  uint64_t brought[32], given[32];
};

struct Piece {
  const void* key;
  std::unique_ptr<void, void (*)(void*)> data{nullptr, std::free};
};

struct Failure {
  std::string what;
};

// The block that runs, its fibers kept for the next one.
struct Block {
  std::vector<std::unique_ptr<Lane>> lanes;  // as many as any block had
  std::vector<Warp> warps;
  std::vector<Piece> pieces;
  size_t threads = 0, at_barrier = 0, done = 0, static_bytes = 0, dynamic_bytes = 0;
  std::unique_ptr<void, void (*)(void*)> dynamic{nullptr, std::free};
  Place barrier;
  const std::function<void()>* body = nullptr;
  std::string failure;
  uint64_t order = 0x9E3779B97F4A7C15ull;

  void run(size_t thread_count, size_t dynamic_size, size_t first, size_t step);
  void explain();
};

Block block;
Lane* running = nullptr;

[[noreturn]] void fail(const std::string& what) { throw Failure{what}; }

void* filled(size_t bytes, size_t alignment) {
  const size_t whole = (bytes + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(std::max(alignment, sizeof(void*)), std::max<size_t>(whole, alignment));
  if (data == nullptr) throw std::bad_alloc();
  std::memset(data, 0xFF, whole);
  return data;
}

void enter(void* argument) {
  Lane& lane = *static_cast<Lane*>(argument);
  try {
    (*block.body)();
  } catch (const Failure& failure) {
    if (block.failure.empty()) block.failure = failure.what;
  } catch (...) {
    if (block.failure.empty()) block.failure = "an exception left the kernel";
  }
  lane.wait = Wait::done;
  ++block.done;
  lane.fiber.leave_for_good();
}

void Block::run(size_t thread_count, size_t dynamic_size, size_t first, size_t step) {
  threads = thread_count;
  at_barrier = done = static_bytes = 0;
  pieces.clear();
  dynamic_bytes = dynamic_size;
  dynamic.reset(dynamic_size == 0 ? nullptr : filled(dynamic_size, 16));
  warps.assign((threads + 31) / 32, Warp());
  while (lanes.size() < threads) lanes.push_back(std::make_unique<Lane>());
  for (size_t i = 0; i < threads; ++i) {
    Lane& lane = *lanes[i];
    lane.number = static_cast<int>(i);
    const unsigned at = static_cast<unsigned>(i);
    lane.index = {at % blockDim.x, at / blockDim.x % blockDim.y, at / (blockDim.x * blockDim.y)};
    lane.wait = Wait::nothing;
    lane.fiber.prepare(enter, &lane);
  }
  while (done < threads && failure.empty()) {
    bool moved = false;
    for (size_t k = 0; k < threads && failure.empty(); ++k) {
      Lane& lane = *lanes[(first + k * step) % threads];
      if (lane.wait != Wait::nothing) continue;
      running = &lane;
      threadIdx = lane.index;
      lane.fiber.resume();
      moved = true;
    }
    if (!moved) explain();
  }
  running = nullptr;
}

void Block::explain() {
  std::string waiting;
  size_t listed = 0;
  for (size_t i = 0; i < threads && listed < 6; ++i) {
    const Lane& lane = *lanes[i];
    if (lane.wait == Wait::done || (i > 0 && lanes[i - 1]->wait == lane.wait && same(lanes[i - 1]->at, lane.at)))
      continue;
    waiting += (listed++ == 0 ? "" : ", ") + std::string("thread ") + std::to_string(i) + " on at " + text(lane.at);
  }
  failure = "threads wait for others that do not come (" + std::to_string(done) + " of " + std::to_string(threads) +
            " have ended): " + waiting;
}

}  // namespace

int lane() { return running->number % 32; }

void block_barrier(const Place& at) {
  Lane& own = *running;
  if (block.done > 0) fail("a barrier at " + text(at) + " after threads of the block have ended");
  if (block.at_barrier == 0) block.barrier = at;
  if (!same(block.barrier, at)) fail("barriers at " + text(block.barrier) + " and at " + text(at) + " in one block");
  own.at = at;
  if (++block.at_barrier == block.threads) {
    block.at_barrier = 0;
    for (size_t i = 0; i < block.threads; ++i) {
      if (block.lanes[i]->wait == Wait::block) block.lanes[i]->wait = Wait::nothing;
    }
    return;
  }
  own.wait = Wait::block;
  own.fiber.yield();
}

const uint64_t* warp_exchange(unsigned mask, uint64_t brought, const Place& at) {
  Lane& own = *running;
  const size_t first = static_cast<size_t>(own.number) / 32 * 32;
  Warp& warp = block.warps[first / 32];
  const unsigned bit = 1u << lane(), lanes = block.threads - first >= 32 ? ~0u : (1u << (block.threads - first)) - 1;
  const bool whole = mask == ~0u;  // in a last warp that is not full the missing lanes are not waited for
  const unsigned expected = whole ? mask & lanes : mask;
  if ((expected & bit) == 0) fail("a warp operation at " + text(at) + " by a lane that is not in its mask");
  if ((expected & ~lanes) != 0) fail("a warp operation at " + text(at) + " with lanes that are not there");
  if (warp.arrived == 0) {
    warp.mask = expected;
    warp.at = at;
    std::memset(warp.brought, 0xFF, sizeof warp.brought);
  } else if (warp.mask != expected || !same(warp.at, at)) {
    fail("warp operations at " + text(warp.at) + " and at " + text(at) + " in one warp");
  }
  warp.brought[lane()] = brought;
  warp.arrived |= bit;
  own.at = at;
  if (warp.arrived == expected) {
    warp.arrived = 0;
    std::memcpy(warp.given, warp.brought, sizeof warp.given);
    for (size_t i = first; i < std::min(first + 32, block.threads); ++i) {
      if (block.lanes[i]->wait == Wait::warp) block.lanes[i]->wait = Wait::nothing;
    }
  } else {
    own.wait = Wait::warp;
    own.fiber.yield();
  }
  return warp.given;
}

void* block_memory(const void* key, size_t bytes, size_t alignment) {
  for (const Piece& piece : block.pieces) {
    if (piece.key == key) return piece.data.get();
  }
  block.static_bytes += bytes;
  if (block.static_bytes > 48 * 1024) fail("more than 48 KiB of static shared memory");
  block.pieces.push_back({key, {filled(bytes, alignment), std::free}});
  return block.pieces.back().data.get();
}

void* dynamic_memory() { return block.dynamic.get(); }

cudaError_t check_grid(const cudaLaunchConfig_t& config, const void* kernel) {
  const OnDevice on_device;
  const dim3 grid = config.gridDim, size = config.blockDim;
  const size_t threads = size_t{size.x} * size.y * size.z, blocks = size_t{grid.x} * grid.y * grid.z;
  if (threads == 0 || threads > 1024 || size.z > 64 || blocks == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
      grid.z > 65535 || config.dynamicSmemBytes > dynamic_limit(kernel)) {
    return set_last(cudaErrorInvalidConfiguration, "a grid, block or shared memory that no device takes");
  }
  return cudaSuccess;
}

cudaError_t run_grid(const cudaLaunchConfig_t& config, const std::function<void()>& body) {
  const OnDevice on_device;
  const dim3 grid = config.gridDim, size = config.blockDim;
  const size_t threads = size_t{size.x} * size.y * size.z, blocks = size_t{grid.x} * grid.y * grid.z;
  block.body = &body;
  block.failure.clear();
  ::gridDim = grid;
  ::blockDim = size;
  // Another order of blocks and threads at every launch, the same in every process.
  block.order = block.order * 6364136223846793005ull + 1442695040888963407ull;
  const auto step_of = [](uint64_t bits, size_t count) {
    size_t step = static_cast<size_t>(bits >> 33) % count + 1;
    while (std::gcd(step, count) != 1) ++step;
    return step;
  };
  const size_t first = static_cast<size_t>(block.order >> 40), block_step = step_of(block.order, blocks);
  const size_t thread_step = step_of(block.order * 0x9E3779B97F4A7C15ull, threads);
  for (size_t i = 0; i < blocks && block.failure.empty(); ++i) {
    const size_t at = (first + i * block_step) % blocks;
    blockIdx = {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                static_cast<unsigned>(at / (size_t{grid.x} * grid.y))};
    block.run(threads, config.dynamicSmemBytes, first, thread_step);
  }
  if (block.failure.empty()) return cudaSuccess;
  return set_last(cudaErrorLaunchFailure, block.failure);
}

}  // namespace cuda_host
