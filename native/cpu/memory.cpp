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

// "1234 bytes" that the system could still give, or "an unknown number of bytes".
std::string free_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  long long kibibytes = 0;
  while (file >> key >> kibibytes) {
    if (key == "MemAvailable:") return std::to_string(kibibytes * 1024) + " bytes";
    std::getline(file, unit);
  }
  return "an unknown number of bytes";
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
  void* data = nullptr;
  if (bytes <= std::numeric_limits<size_t>::max() - 64) {
    // Whole cache lines: a vector at the end never shares one with a stranger.
    data = ::operator new((bytes + 63) / 64 * 64 + (bytes == 0 ? 64 : 0), alignment, std::nothrow);
  }
  if (data == nullptr) {
    throw Error(ErrorCode::out_of_memory, "expected to allocate " + std::to_string(bytes) +
                                              " bytes, got none of them: " + free_memory() + " free");
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
