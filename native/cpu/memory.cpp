// Aligned allocation, and working memory a thread.
#include "cpu/memory.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "core/error.h"

namespace palimpsest::cpu {
namespace {

constexpr size_t line = 64;
constexpr size_t large = size_t{1} << 20;

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

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

// Blocks of a megabyte and more. What is given back is kept for the next one of about its size: a loop that makes a
// vector a step would otherwise have the system map and clear the same pages again and again.
class LargeBlocks {
 public:
  // `bytes` in whole lines; null where there is no memory.
  void* take(size_t bytes) {
    bytes = round_up(bytes, small_page);
    const std::lock_guard<std::mutex> hold(lock_);
    const auto kept = kept_.lower_bound(bytes);
    if (kept != kept_.end() && kept->first <= bytes + bytes / 8) {
      void* data = kept->second;
      kept_bytes_ -= kept->first;
      sizes_.emplace(data, kept->first);
      kept_.erase(kept);
      return data;
    }
    // Systems promise memory that they do not have and end the process that touches it: they are asked first.
    constexpr size_t worth_asking = size_t{64} << 20;
    if (bytes >= worth_asking && bytes >= free_memory()) {
      release_kept();
      if (bytes >= free_memory()) return nullptr;
    }
    const size_t size = round_up(bytes, page_of(bytes));
    void* data = new_block(size);
    if (data == nullptr && !kept_.empty()) {
      release_kept();
      data = new_block(size);
    }
    if (data != nullptr) sizes_.emplace(data, size);
    return data;
  }

  // False for what did not come from here.
  bool give_back(void* data) noexcept {
    const std::lock_guard<std::mutex> hold(lock_);
    const auto found = sizes_.find(data);
    if (found == sizes_.end()) return false;
    const size_t size = found->second;
    sizes_.erase(found);
    if (kept_bytes_ + size <= most_kept && kept_.size() < most_blocks) {
      try {
        kept_.emplace(size, data);
        kept_bytes_ += size;
        return true;
      } catch (const std::bad_alloc&) {  // then it goes
      }
    }
    free_block(data, size);
    return true;
  }

 private:
  static constexpr size_t small_page = 4096, huge_page = size_t{2} << 20, most_kept = size_t{128} << 20,
                          most_blocks = 16;

  // Where whole huge pages waste little.
  static size_t page_of(size_t bytes) { return bytes >= 4 * huge_page ? huge_page : small_page; }
  static void* new_block(size_t size) noexcept {
    void* data = ::operator new(size, std::align_val_t(page_of(size)), std::nothrow);
#ifdef __linux__
    // A wish, refused where there are none.
    if (data != nullptr && page_of(size) == huge_page) madvise(data, size, MADV_HUGEPAGE);
#endif
    return data;
  }
  static void free_block(void* data, size_t size) noexcept { ::operator delete(data, std::align_val_t(page_of(size))); }
  void release_kept() noexcept {
    for (const auto& [size, data] : kept_) free_block(data, size);
    kept_.clear();
    kept_bytes_ = 0;
  }

  std::mutex lock_;
  std::unordered_map<void*, size_t> sizes_;  // of the blocks in use
  std::multimap<size_t, void*> kept_;
  size_t kept_bytes_ = 0;
};

// Never destroyed: threads give their working memory back when the process ends.
LargeBlocks& large_blocks() {
  static LargeBlocks* const blocks = new LargeBlocks;
  return *blocks;
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
  // Whole cache lines: a vector at the end never shares one with a stranger.
  const size_t size = std::max(round_up(bytes, line), line);
  void* data = nullptr;
  if (bytes < large) {
    data = ::operator new(size, std::align_val_t(line), std::nothrow);
  } else if (bytes <= std::numeric_limits<size_t>::max() / 2) {
    data = large_blocks().take(size);
  }
  if (data == nullptr) {
    throw Error(ErrorCode::out_of_memory, "expected to allocate " + std::to_string(bytes) +
                                              " bytes, got none: " + std::to_string(free_memory()) + " bytes are free");
  }
  return data;
}

void release_aligned(void* data) noexcept {
  if (data == nullptr || large_blocks().give_back(data)) return;
  ::operator delete(data, std::align_val_t(line));
}

void* workspace(Slot slot, size_t bytes) {
  Workspace::Block& block = thread_workspace.blocks[static_cast<size_t>(slot)];
  if (block.bytes < bytes || block.data == nullptr) {
    const size_t rounded = round_up(bytes, 4096);
    release_aligned(block.data);
    block = {};
    block.data = allocate_aligned(rounded);
    block.bytes = rounded;
  }
  return block.data;
}

}  // namespace palimpsest::cpu
