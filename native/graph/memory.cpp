// Offsets in one arena: largest buffers first, each at the lowest gap that is free for its whole lifetime.
#include "graph/memory.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace palimpsest {

namespace {

constexpr int64_t alignment = 64;

// What crosses from primal to tangent steps must outlive every apply.
void hold_crossing(Plan& plan) {
  const int32_t forever = std::numeric_limits<int32_t>::max();
  for (const Step& step : plan.steps) {
    if (!step.tangent) continue;
    for (int32_t b : step.inputs) {
      Buffer& root = plan.buffers[static_cast<size_t>(plan.buffers[static_cast<size_t>(b)].root)];
      if (!root.tangent) root.last = forever;
    }
  }
  // In a held program the steps of both kinds interleave in the plan but not in time: a primal buffer that lives for
  // ever must also be free of tangent buffers that were planned before it.
  for (Buffer& buffer : plan.buffers) {
    if (buffer.last == forever) buffer.first = std::min(buffer.first, 0);
  }
  // Outputs that primal steps computed are read after apply.
  for (int32_t b : plan.outputs) {
    if (b < 0) continue;
    Buffer& root = plan.buffers[static_cast<size_t>(plan.buffers[static_cast<size_t>(b)].root)];
    if (root.tangent) continue;
    root.first = 0;
    root.last = forever;
  }
}

}  // namespace

void assign_memory(Plan& plan, bool holdable) {
  if (holdable) hold_crossing(plan);
  std::vector<int32_t> roots;
  for (size_t i = 0; i < plan.buffers.size(); ++i) {
    const Buffer& b = plan.buffers[i];
    if (b.storage == Storage::arena && b.root == static_cast<int32_t>(i)) roots.push_back(b.root);
  }
  std::stable_sort(roots.begin(), roots.end(), [&](int32_t a, int32_t b) {
    return plan.buffers[static_cast<size_t>(a)].bytes > plan.buffers[static_cast<size_t>(b)].bytes;
  });
  std::vector<int32_t> placed;
  for (int32_t root : roots) {
    Buffer& buffer = plan.buffers[static_cast<size_t>(root)];
    const int64_t bytes = (buffer.bytes + alignment - 1) / alignment * alignment;
    int64_t offset = 0;
    // `placed` is sorted by offset: walk up past every buffer that overlaps in time.
    for (int32_t other : placed) {
      const Buffer& o = plan.buffers[static_cast<size_t>(other)];
      const bool together = buffer.first <= o.last && o.first <= buffer.last;
      const int64_t o_bytes = (o.bytes + alignment - 1) / alignment * alignment;
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
