// Speed of the CPU's kernels: GFLOP/s of products, convolutions and per-example squares, GB/s of passes over memory.
// palimpsest_bench_kernels [--one] [--json] [--tiny] [--repeats N] [TEXT]: rows whose name holds TEXT; --one takes one
// thread and counts processor time, for a machine that others use too. Rates are of the median run, quartiles behind.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu/threads.h"
#include "measure.h"

int main(int argc, char** argv) {
  using namespace palimpsest;
  bench::Settings settings;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--one") == 0) {
      settings.processor_time = true;
      cpu::set_threads(1);
    } else if (std::strcmp(argv[i], "--json") == 0) {
      settings.json = true;
    } else if (std::strcmp(argv[i], "--tiny") == 0) {
      settings.tiny = true;
      settings.seconds = 0;
    } else if (std::strcmp(argv[i], "--repeats") == 0 && i + 1 < argc) {
      settings.repeats = std::max(1, std::atoi(argv[++i]));
    } else {
      settings.only = argv[i];
    }
  }
  bench::Report report(settings);
  const std::shared_ptr<Backend> backend = open_backend("cpu");
  if (!settings.json) std::printf("%s\n", backend->description().c_str());
  bench::bench_matrix(report, *backend);
  bench::bench_passes(report, *backend);
  return 0;
}
