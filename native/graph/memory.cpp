// Offsets in one arena: largest buffers first, each at the lowest gap that is free for its whole lifetime.
#include "graph/memory.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace palimpsest {

namespace {

constexpr int64_t alignment = 64;

int64_t aligned(int64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

// What crosses from primal to tangent steps must outlive every apply: it lies apart, at the arena's start. Steps of
// both kinds interleave in the plan but not in time: it is there before the first of them.
void hold_crossing(Plan& plan, uint32_t late_inputs) {
  const auto keep = [&](int32_t b) {
    const int32_t id = plan.buffers[static_cast<size_t>(b)].root;
    Buffer& root = plan.buffers[static_cast<size_t>(id)];
    if (root.storage == Storage::input && (late_inputs >> root.index & 1) == 0) plan.held_inputs |= 1u << root.index;
    if (root.storage != Storage::arena || root.tangent || root.held) return;
    root.held = true;
    root.first = 0;
    root.last = std::numeric_limits<int32_t>::max();
    root.offset = plan.held_bytes;
    plan.held_bytes += aligned(root.bytes);
  };
  for (const Step& step : plan.steps) {
    if (!step.tangent) continue;
    for (int32_t b : step.inputs) keep(b);
  }
  for (int32_t b : plan.outputs) {  // outputs that primal steps computed are read after apply
    if (b >= 0) keep(b);
  }
  plan.arena_bytes = plan.held_bytes;
}

}  // namespace

void assign_memory(Plan& plan, bool holdable, uint32_t late_inputs) {
  if (holdable) hold_crossing(plan, late_inputs);
  std::vector<int32_t> roots;
  for (size_t i = 0; i < plan.buffers.size(); ++i) {
    const Buffer& b = plan.buffers[i];
    if (b.storage == Storage::arena && b.root == static_cast<int32_t>(i) && !b.held) roots.push_back(b.root);
  }
  std::stable_sort(roots.begin(), roots.end(), [&](int32_t a, int32_t b) {
    return plan.buffers[static_cast<size_t>(a)].bytes > plan.buffers[static_cast<size_t>(b)].bytes;
  });
  std::vector<int32_t> placed;
  for (int32_t root : roots) {
    Buffer& buffer = plan.buffers[static_cast<size_t>(root)];
    const int64_t bytes = aligned(buffer.bytes);
    int64_t offset = plan.held_bytes;
    // `placed` is sorted by offset: walk up past every buffer that overlaps in time.
    for (int32_t other : placed) {
      const Buffer& o = plan.buffers[static_cast<size_t>(other)];
      const bool together = buffer.first <= o.last && o.first <= buffer.last;
      const int64_t o_bytes = aligned(o.bytes);
      if (together && offset < o.offset + o_bytes && o.offset < offset + bytes) offset = o.offset + o_bytes;
    }
    buffer.offset = offset;
    plan.arena_bytes = std::max(plan.arena_bytes, offset + bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), root,
                                   [&](int32_t a, int32_t b) {
                                     return plan.buffers[static_cast<size_t>(a)].offset <
                                            plan.buffers[static_cast<size_t>(b)].offset;
                                   }),
                  root);
  }
}

}  // namespace palimpsest
