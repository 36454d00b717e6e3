// What we call of cuBLASLt 12 and 13, declared by ourselves: no header of it is needed to build, and where its header
// is at hand library_headers.cpp compares the two.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace palimpsest::cuda::cublas {

using Handle = struct HandleOfLibrary*;
using Operation = struct OperationOfLibrary*;
using Layout = struct LayoutOfLibrary*;
using Preference = struct PreferenceOfLibrary*;

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

constexpr int success = 0, not_supported = 15;
constexpr int real_32 = 0, real_64 = 1;                                // cudaDataType
constexpr int compute_32 = 68, compute_32_tf32 = 77, compute_64 = 70;  // cublasComputeType_t
constexpr int transpose_a = 3, transpose_b = 4;                        // cublasLtMatmulDescAttributes_t
constexpr int32_t transposed = 1;                                      // cublasOperation_t
constexpr int batch_count = 5, batch_stride = 6;                       // cublasLtMatrixLayoutAttribute_t
constexpr int most_workspace = 1, reductions = 3;                      // cublasLtMatmulPreferenceAttributes_t
constexpr int alignment_a = 5, alignment_b = 6, alignment_c = 7, alignment_d = 8;
constexpr uint32_t sum_in_workspace = 2;  // cublasLtReductionScheme_t: parts are added up in a second kernel

struct Functions {
  size_t (*get_version)();
  const char* (*get_status_string)(int status);
  int (*create)(Handle* handle);
  int (*create_operation)(Operation* operation, int compute, int scale);
  int (*set_operation)(Operation operation, int attribute, const void* value, size_t bytes);
  int (*destroy_operation)(Operation operation);
  int (*create_layout)(Layout* layout, int type, uint64_t rows, uint64_t columns, int64_t leading);
  int (*set_layout)(Layout layout, int attribute, const void* value, size_t bytes);
  int (*destroy_layout)(Layout layout);
  int (*create_preference)(Preference* preference);
  int (*set_preference)(Preference preference, int attribute, const void* value, size_t bytes);
  int (*destroy_preference)(Preference preference);
  int (*choose)(Handle handle, Operation operation, Layout a, Layout b, Layout c, Layout d, Preference preference,
                int wanted, Choice* choices, int* found);
  int (*multiply)(Handle handle, Operation operation, const void* alpha, const void* a, Layout layout_a, const void* b,
                  Layout layout_b, const void* beta, const void* c, Layout layout_c, void* d, Layout layout_d,
                  const Algorithm* algorithm, void* workspace, size_t workspace_bytes, cudaStream_t stream);
};

}  // namespace palimpsest::cuda::cublas
