// CUDA where this build has no kernels for it: says so, and what to do.
#include "backend/cuda.h"
#include "core/error.h"

namespace palimpsest {

namespace {

constexpr const char* reason = "this build has no CUDA kernels";
constexpr const char* cure =
    "install the CUDA toolkit 12.8 or later, put nvcc on the PATH and build again: PALIMPSEST_CUDA=ON npm rebuild "
    "palimpsest";

}  // namespace

bool cuda_built() { return false; }

CudaReport probe_cuda() {
  CudaReport report;
  report.reason = reason;
  report.cure = cure;
  return report;
}

std::shared_ptr<Backend> open_cuda(int ordinal) {
  throw Error(ErrorCode::device, "expected a device that can be used, got 'cuda:" + std::to_string(ordinal) +
                                     "': " + reason + "; " + cure);
}

}  // namespace palimpsest
