// Working memory of each thread, and what kernels asked for of it.
#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <vector>

#include "cpu/memory.h"

namespace palimpsest::cpu {
namespace {

constexpr size_t page = 4096;

std::atomic<uint64_t> watch{0};

struct Workspace {
  struct Block {
    void* data = nullptr;
    size_t bytes = 0;
    uint64_t watched = 0;  // by which watch
    size_t asked = 0;      // the most that was asked for since it began
  };
  std::array<Block, static_cast<size_t>(Slot::count_)> blocks;

  Workspace();
  ~Workspace();
};

// Every thread's working memory. Never destroyed: threads may end after static objects.
struct Workspaces {
  std::mutex mutex;
  std::vector<Workspace*> all;
};

Workspaces& workspaces() {
  static Workspaces* const known = new Workspaces;
  return *known;
}

Workspace::Workspace() {
  Workspaces& known = workspaces();
  const std::lock_guard<std::mutex> hold(known.mutex);
  known.all.push_back(this);
}

Workspace::~Workspace() {
  {
    Workspaces& known = workspaces();
    const std::lock_guard<std::mutex> hold(known.mutex);
    known.all.erase(std::find(known.all.begin(), known.all.end(), this));
  }
  for (const Block& block : blocks) release_aligned(block.data);
}

thread_local Workspace thread_workspace;

}  // namespace

void* workspace(Slot slot, size_t bytes) {
  Workspace::Block& block = thread_workspace.blocks[static_cast<size_t>(slot)];
  const uint64_t now = watch.load(std::memory_order_relaxed);
  if (block.watched != now) block.watched = now, block.asked = 0;
  block.asked = std::max(block.asked, bytes);
  if (block.bytes < bytes || block.data == nullptr) {
    const size_t rounded = (bytes + page - 1) / page * page;
    release_aligned(block.data);
    block.data = nullptr;
    block.bytes = 0;
    block.data = allocate_aligned(rounded);
    block.bytes = rounded;
  }
  return block.data;
}

void watch_workspaces() { watch.fetch_add(1, std::memory_order_relaxed); }

std::vector<size_t> watched_workspaces() {
  const uint64_t now = watch.load(std::memory_order_relaxed);
  std::vector<size_t> asked(static_cast<size_t>(Slot::count_), 0);
  Workspaces& known = workspaces();
  const std::lock_guard<std::mutex> hold(known.mutex);
  for (const Workspace* workspace : known.all) {
    for (size_t slot = 0; slot < asked.size(); ++slot) {
      const Workspace::Block& block = workspace->blocks[slot];
      if (block.watched == now) asked[slot] += block.asked;
    }
  }
  return asked;
}

}  // namespace palimpsest::cpu
