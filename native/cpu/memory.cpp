// Aligned allocation, and working memory a thread.
#include "cpu/memory.h"

#include <array>
#include <fstream>
#include <limits>
#include <new>
#include <string>

#include "core/error.h"

namespace palimpsest::cpu {
namespace {

constexpr std::align_val_t alignment{64};

// Bytes that the system could still give; the largest number where it does not say.
size_t free_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  size_t kibibytes = 0;
  while (file >> key >> kibibytes) {
    if (key == "MemAvailable:") return kibibytes * 1024;
    std::getline(file, unit);
  }
  return std::numeric_limits<size_t>::max();
}

struct Workspace {
  struct Block {
    void* data = nullptr;
    size_t bytes = 0;
  };
  std::array<Block, static_cast<size_t>(Slot::count_)> blocks;

  ~Workspace() {
    for (const Block& block : blocks) release_aligned(block.data);
  }
};

thread_local Workspace thread_workspace;

}  // namespace

void* allocate_aligned(size_t bytes) {
  // Systems promise memory that they do not have and end the process that touches it: large pieces are asked about.
  constexpr size_t large = size_t{64} << 20;
  const bool fits = bytes < large || bytes < free_memory();
  void* data = nullptr;
  // Whole cache lines: a vector at the end never shares one with a stranger.
  if (fits) data = ::operator new((bytes + 63) / 64 * 64 + (bytes == 0 ? 64 : 0), alignment, std::nothrow);
  if (data == nullptr) {
    throw Error(ErrorCode::out_of_memory, "expected to allocate " + std::to_string(bytes) +
                                              " bytes, got none: " + std::to_string(free_memory()) + " bytes are free");
  }
  return data;
}

void release_aligned(void* data) noexcept { ::operator delete(data, alignment); }

void* workspace(Slot slot, size_t bytes) {
  Workspace::Block& block = thread_workspace.blocks[static_cast<size_t>(slot)];
  if (block.bytes < bytes || block.data == nullptr) {
    const size_t rounded = (bytes + 4095) / 4096 * 4096;
    release_aligned(block.data);
    block = {};
    block.data = allocate_aligned(rounded);
    block.bytes = rounded;
  }
  return block.data;
}

}  // namespace palimpsest::cpu
