// A cuBLASLt in plain loops for the emulator: the calls that cuda/cublas.cpp makes, checked for what the library
// demands of them.
#include <cstdint>
#include <cstring>
#include <map>

#include "pretend_libraries.h"

using cuda_host::on_device;

namespace {

constexpr int success = 0, invalid = 7, not_supported = 15;

struct Operation {
  int compute, scale;
  std::map<int, int32_t> values;
};
struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t leading, stride = 0;
  int32_t batch = 1;
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t reductions = 7, alignment[4] = {256, 256, 256, 256};
};
struct Algorithm {
  uint64_t data[8];
};
struct Choice {
  Algorithm algorithm;
  size_t workspace;
  int status;
  float waves;
  int reserved[4];
};
int handle_of_library;

bool is_aligned(const void* data, uint64_t alignment) { return reinterpret_cast<uint64_t>(data) % alignment == 0; }

template <class T>
void multiply(bool ta, bool tb, T alpha, const T* a, const Layout& la, const T* b, const Layout& lb, T beta, T* d,
              const Layout& ld) {
  const auto depth = static_cast<int64_t>(ta ? la.rows : la.columns);
  for (int64_t i = 0; i < ld.batch; ++i) {
    for (int64_t row = 0; row < static_cast<int64_t>(ld.rows); ++row) {
      for (int64_t column = 0; column < static_cast<int64_t>(ld.columns); ++column) {
        T sum = 0;
        for (int64_t k = 0; k < depth; ++k) {
          sum += a[i * la.stride + (ta ? k + row * la.leading : row + k * la.leading)] *
                 b[i * lb.stride + (tb ? column + k * lb.leading : k + column * lb.leading)];
        }
        T& to = d[i * ld.stride + row + column * ld.leading];
        to = alpha * sum + (beta == 0 ? T(0) : beta * to);
      }
    }
  }
}

size_t cublasLtGetVersion() { return 130100; }
const char* cublasLtGetStatusString(int) { return "a pretended failure"; }
int cublasLtCreate(void** handle) { return *handle = &handle_of_library, success; }

int cublasLtMatmulDescCreate(Operation** operation, int compute, int scale) {
  if (!((compute == 70 && scale == 1) || ((compute == 68 || compute == 77) && scale == 0))) return invalid;
  return *operation = new Operation{compute, scale, {}}, success;
}
int cublasLtMatmulDescSetAttribute(Operation* operation, int attribute, const void* value, size_t bytes) {
  if ((attribute != 3 && attribute != 4) || bytes != 4) return invalid;
  std::memcpy(&operation->values[attribute], value, bytes);
  return success;
}
int cublasLtMatmulDescDestroy(Operation* operation) { return delete operation, success; }

int cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  if (leading < static_cast<int64_t>(rows) || (type != 0 && type != 1)) return invalid;
  return *layout = new Layout{type, rows, columns, leading}, success;
}
int cublasLtMatrixLayoutSetAttribute(Layout* layout, int attribute, const void* value, size_t bytes) {
  if (attribute == 5 && bytes == 4) return std::memcpy(&layout->batch, value, bytes), success;
  if (attribute == 6 && bytes == 8) return std::memcpy(&layout->stride, value, bytes), success;
  return invalid;
}
int cublasLtMatrixLayoutDestroy(Layout* layout) { return delete layout, success; }

int cublasLtMatmulPreferenceCreate(Preference** preference) { return *preference = new Preference, success; }
int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, size_t bytes) {
  if (attribute == 1 && bytes == 8) return std::memcpy(&preference->workspace, value, bytes), success;
  if (attribute == 3 && bytes == 4) return std::memcpy(&preference->reductions, value, bytes), success;
  if (attribute >= 5 && attribute <= 8 && bytes == 4) {
    return std::memcpy(&preference->alignment[attribute - 5], value, bytes), success;
  }
  return invalid;
}
int cublasLtMatmulPreferenceDestroy(Preference* preference) { return delete preference, success; }

// Takes nothing of 7 columns, to be refused something.
int cublasLtMatmulAlgoGetHeuristic(void* handle, Operation* operation, Layout* a, Layout* b, Layout* c, Layout* d,
                                   Preference* preference, int wanted, Choice* choices, int* found) {
  *found = 0;
  const bool ta = operation->values[3] == 1, tb = operation->values[4] == 1;
  const bool fits = handle == &handle_of_library && c == d && wanted >= 1 && (ta ? a->columns : a->rows) == d->rows &&
                    (tb ? b->rows : b->columns) == d->columns &&
                    (ta ? a->rows : a->columns) == (tb ? b->columns : b->rows) && a->batch == d->batch &&
                    b->batch == d->batch && preference->reductions == 2 && a->type == operation->scale;
  if (!fits) return invalid;
  if (d->rows == 7) return not_supported;
  Choice choice{};
  std::memcpy(choice.algorithm.data, preference->alignment, sizeof preference->alignment);
  choice.workspace = d->rows % 2 == 0 ? 1000 : 0;
  if (choice.workspace > preference->workspace) return invalid;
  *choices = choice;
  return *found = 1, success;
}

int cublasLtMatmul(void* handle, Operation* operation, const void* alpha, const void* a, Layout* layout_a,
                   const void* b, Layout* layout_b, const void* beta, const void* c, Layout* layout_c, void* d,
                   Layout* layout_d, const Algorithm* algorithm, void* workspace, size_t workspace_bytes,
                   cudaStream_t stream) {
  uint32_t alignment[4];
  std::memcpy(alignment, algorithm->data, sizeof alignment);
  const size_t needs = layout_d->rows % 2 == 0 ? 1000 : 0;
  if (handle != &handle_of_library || c != d || layout_c != layout_d || workspace_bytes != needs ||
      (needs > 0 && !is_aligned(workspace, 256)) || !is_aligned(a, alignment[0]) || !is_aligned(b, alignment[1]) ||
      !is_aligned(d, alignment[3])) {
    return invalid;
  }
  const bool ta = operation->values[3] == 1, tb = operation->values[4] == 1;
  // Scalars and descriptors are read before the call returns.
  const auto later = [&]<class T>(T zero) {
    static_cast<void>(zero);
    on_device(stream, [=, scale = *static_cast<const T*>(alpha), old = *static_cast<const T*>(beta),
                       layout_a = *layout_a, layout_b = *layout_b, layout_d = *layout_d] {
      if (workspace != nullptr) std::memset(workspace, 0xFF, needs);
      multiply(ta, tb, scale, static_cast<const T*>(a), layout_a, static_cast<const T*>(b), layout_b, old,
               static_cast<T*>(d), layout_d);
    });
  };
  if (operation->scale == 1) later(double());
  else later(float());
  return success;
}

}  // namespace

void* cuda_host::pretended_cublas_function(const std::string& name) {
#define PRETENDED(function) \
  if (name == #function) return reinterpret_cast<void*>(&function)
  PRETENDED(cublasLtGetVersion);
  PRETENDED(cublasLtGetStatusString);
  PRETENDED(cublasLtCreate);
  PRETENDED(cublasLtMatmulDescCreate);
  PRETENDED(cublasLtMatmulDescSetAttribute);
  PRETENDED(cublasLtMatmulDescDestroy);
  PRETENDED(cublasLtMatrixLayoutCreate);
  PRETENDED(cublasLtMatrixLayoutSetAttribute);
  PRETENDED(cublasLtMatrixLayoutDestroy);
  PRETENDED(cublasLtMatmulPreferenceCreate);
  PRETENDED(cublasLtMatmulPreferenceSetAttribute);
  PRETENDED(cublasLtMatmulPreferenceDestroy);
  PRETENDED(cublasLtMatmulAlgoGetHeuristic);
  PRETENDED(cublasLtMatmul);
#undef PRETENDED
  return nullptr;
}
