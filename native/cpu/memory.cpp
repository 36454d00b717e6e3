// Aligned allocation, counted; large blocks are used again.
#include "cpu/memory.h"

#include <algorithm>
#include <atomic>
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
#include "cpu/free_memory.h"

namespace palimpsest::cpu {
namespace {

constexpr size_t line = 64;
constexpr size_t large = size_t{1} << 20;

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

std::atomic<size_t> held{0}, most_held{0}, limit{0};

void count_allocated(size_t bytes) {
  const size_t now = held.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  size_t most = most_held.load(std::memory_order_relaxed);
  while (now > most && !most_held.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
  }
}

size_t left_of_limit() {
  const size_t most = limit.load(std::memory_order_relaxed), now = held.load(std::memory_order_relaxed);
  if (most == 0) return std::numeric_limits<size_t>::max();
  return now < most ? most - now : 0;
}

// Blocks of a megabyte and more. What is given back is kept for the next one of about its size: a loop that makes a
// vector a step would otherwise have the system map and clear the same pages again and again.
class LargeBlocks {
 public:
  // `asked` in whole lines; null where there is no memory.
  void* take(size_t asked) {
    const size_t bytes = round_up(asked, small_page);
    const std::lock_guard<std::mutex> hold(lock_);
    const auto kept = kept_.lower_bound(bytes);
    if (kept != kept_.end() && kept->first <= bytes + bytes / 8) {
      void* data = kept->second;
      kept_bytes_ -= kept->first;
      sizes_.emplace(data, Sizes{kept->first, asked});
      kept_.erase(kept);
      return data;
    }
    // What is kept counts where memory is short by the caller's own word.
    if (kept_bytes_ > 0 && left_of_limit() - std::min(left_of_limit(), bytes) < kept_bytes_) release_kept();
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
    if (data != nullptr) sizes_.emplace(data, Sizes{size, asked});
    return data;
  }

  // What was asked for; 0 for what did not come from here.
  size_t give_back(void* data) noexcept {
    const std::lock_guard<std::mutex> hold(lock_);
    const auto found = sizes_.find(data);
    if (found == sizes_.end()) return 0;
    const auto [size, asked] = found->second;
    sizes_.erase(found);
    if (kept_bytes_ + size <= most_kept && kept_.size() < most_blocks) {
      try {
        kept_.emplace(size, data);
        kept_bytes_ += size;
        return asked;
      } catch (const std::bad_alloc&) {  // then it goes
      }
    }
    free_block(data, size);
    return asked;
  }

  size_t kept() {
    const std::lock_guard<std::mutex> hold(lock_);
    return kept_bytes_;
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

  struct Sizes {
    size_t block = 0, asked = 0;
  };

  std::mutex lock_;
  std::unordered_map<void*, Sizes> sizes_;  // of the blocks in use
  std::multimap<size_t, void*> kept_;
  size_t kept_bytes_ = 0;
};

// Never destroyed: threads give their working memory back when the process ends.
LargeBlocks& large_blocks() {
  static LargeBlocks* const blocks = new LargeBlocks;
  return *blocks;
}

}  // namespace

void* allocate_aligned(size_t bytes) {
  // Whole cache lines: a vector at the end never shares one with a stranger. Small pieces have their size in a line
  // before them, those of large blocks know it.
  const size_t size = std::max(round_up(bytes, line), line);
  void* data = nullptr;
  const bool fits = bytes <= std::numeric_limits<size_t>::max() / 2 && size <= left_of_limit();
  if (fits && bytes < large) {
    if (char* piece = static_cast<char*>(::operator new(line + size, std::align_val_t(line), std::nothrow))) {
      *reinterpret_cast<size_t*>(piece) = size;
      data = piece + line;
    }
  } else if (fits) {
    data = large_blocks().take(size);
  }
  if (data == nullptr) {
    throw Error(ErrorCode::out_of_memory, "expected to allocate " + std::to_string(bytes) + " bytes, got none: " +
                                              std::to_string(memory_use().free) + " bytes are free");
  }
  count_allocated(size);
  return data;
}

void release_aligned(void* data) noexcept {
  if (data == nullptr) return;
  if (const size_t size = large_blocks().give_back(data); size > 0) {
    held.fetch_sub(size, std::memory_order_relaxed);
    return;
  }
  char* piece = static_cast<char*>(data) - line;
  held.fetch_sub(*reinterpret_cast<size_t*>(piece), std::memory_order_relaxed);
  ::operator delete(piece, std::align_val_t(line));
}

MemoryUse memory_use() {
  MemoryUse use;
  use.held = held.load(std::memory_order_relaxed);
  use.peak = most_held.load(std::memory_order_relaxed);
  use.limit = limit.load(std::memory_order_relaxed);
  const size_t system = free_memory(), kept = large_blocks().kept();
  use.free = std::min(system > std::numeric_limits<size_t>::max() - kept ? system : system + kept, left_of_limit());
  return use;
}

void reset_peak() { most_held.store(held.load(std::memory_order_relaxed), std::memory_order_relaxed); }

void limit_memory(size_t bytes) { limit.store(bytes, std::memory_order_relaxed); }

}  // namespace palimpsest::cpu
