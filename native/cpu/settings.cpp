// Threads and instruction set, checked first and then set together, for our kernels and oneDNN's alike.
#include "cpu/settings.h"

#include "core/error.h"
#include "cpu/isa.h"
#include "cpu/onednn.h"
#include "cpu/threads.h"

namespace palimpsest::cpu {
namespace {

constexpr int most_threads = 1024;

Isa isa_named(const std::string& wanted) {
  std::string known;
  for (const Isa isa : all_isas) {
    if (isa > best_isa()) break;
    if (wanted == isa_name(isa)) return isa;
    known += (known.empty() ? "" : ", ") + std::string(isa_name(isa));
  }
  throw Error(ErrorCode::invalid_argument,
              "expected an instruction set that this machine and build have (" + known + "), got '" + wanted + "'");
}

}  // namespace

DeviceSettings settings() { return {thread_count(), isa_name(current_isa())}; }

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Isa isa : all_isas) {
    if (isa <= best_isa()) names.push_back(isa_name(isa));
  }
  return names;
}

void configure(const DeviceSettings& wanted) {
  if (wanted.threads < 0 || wanted.threads > most_threads) {
    throw Error(ErrorCode::invalid_argument,
                "expected 1 to " + std::to_string(most_threads) + " threads, got " + std::to_string(wanted.threads));
  }
  if (!wanted.instruction_set.empty()) {
    const Isa isa = isa_named(wanted.instruction_set);
    // With oneDNN's kernels of another set the same setting would give other bits, depending on when it was made.
    if (isa != current_isa() && !onednn_follow(isa)) {
      throw Error(ErrorCode::unsupported,
                  "expected the instruction set to be chosen before the first computation, got '" +
                      wanted.instruction_set + "' after oneDNN has begun with '" + isa_name(current_isa()) +
                      "': choose it first, or set the environment variable PALIMPSEST_ISA");
    }
    set_isa(isa);
  }
  if (wanted.threads > 0) set_threads(wanted.threads);
}

}  // namespace palimpsest::cpu
