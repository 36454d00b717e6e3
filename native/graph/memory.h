// Offsets in one arena for buffers whose lifetimes are known.
#pragma once

#include "graph/plan.h"

namespace palimpsest {

// Decides the offset of every arena root and the arena's size. With `holdable`, what tangent steps read from primal
// steps lies apart and lives for ever, so that the tangent steps can run again. Late inputs (a bit an InputSlot) come
// with the tangents.
void assign_memory(Plan& plan, bool holdable, uint32_t late_inputs = 0);

}  // namespace palimpsest
