// Keeps the addon's code in memory: its thread outlives the worker that loaded it.
#pragma once

namespace palimpsest {

// When a worker ends, Node closes the addons it loaded; the last close would unload code that a thread runs.
void pin_library() noexcept;

}  // namespace palimpsest
