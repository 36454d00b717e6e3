// Our declarations of cuBLASLt and cuDNN beside those of their headers, where a build finds these: sizes, constants and
// what every call takes. Nothing of it is in the binary. CMakeLists.txt says where headers are looked for.
#include "cuda/cublas_api.h"
#include "cuda/cudnn_api.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#endif
#if __has_include(<cudnn.h>)
#include <cudnn.h>
#endif

#include "cuda/same_calls.h"

// Versions whose libraries are opened; headers of others say nothing about them.
#if defined(CUBLAS_VER_MAJOR) && (CUBLAS_VER_MAJOR == 12 || CUBLAS_VER_MAJOR == 13)
#define PALIMPSEST_SEES_CUBLASLT 1
#else
#define PALIMPSEST_SEES_CUBLASLT 0
#endif
#if defined(CUDNN_MAJOR) && CUDNN_MAJOR == 9
#define PALIMPSEST_SEES_CUDNN 1
#else
#define PALIMPSEST_SEES_CUDNN 0
#endif
#if defined(PALIMPSEST_NEEDS_LIBRARY_HEADERS) && !(PALIMPSEST_SEES_CUBLASLT && PALIMPSEST_SEES_CUDNN)
#error "expected headers of cuBLASLt 12 or 13 and of cuDNN 9 to compare with"
#endif

namespace palimpsest::cuda {

#if PALIMPSEST_SEES_CUBLASLT
namespace cublas {
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t) &&
              sizeof(Choice) == sizeof(cublasLtMatmulHeuristicResult_t) &&
              offsetof(Choice, workspace) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize) &&
              offsetof(Choice, status) == offsetof(cublasLtMatmulHeuristicResult_t, state));
static_assert(success == CUBLAS_STATUS_SUCCESS && not_supported == CUBLAS_STATUS_NOT_SUPPORTED);
static_assert(real_32 == CUDA_R_32F && real_64 == CUDA_R_64F && transposed == CUBLAS_OP_T);
static_assert(compute_32 == CUBLAS_COMPUTE_32F && compute_32_tf32 == CUBLAS_COMPUTE_32F_FAST_TF32 &&
              compute_64 == CUBLAS_COMPUTE_64F);
static_assert(transpose_a == CUBLASLT_MATMUL_DESC_TRANSA && transpose_b == CUBLASLT_MATMUL_DESC_TRANSB);
static_assert(batch_count == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT &&
              batch_stride == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET);
static_assert(most_workspace == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES &&
              reductions == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK &&
              alignment_a == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
              alignment_b == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES &&
              alignment_c == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES &&
              alignment_d == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
static_assert(sum_in_workspace == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
static_assert(SameCalls<decltype(Functions::get_version), decltype(cublasLtGetVersion)>::value);
static_assert(SameCalls<decltype(Functions::get_status_string), decltype(cublasLtGetStatusString)>::value);
static_assert(SameCalls<decltype(Functions::create), decltype(cublasLtCreate)>::value);
static_assert(SameCalls<decltype(Functions::create_operation), decltype(cublasLtMatmulDescCreate)>::value);
static_assert(SameCalls<decltype(Functions::set_operation), decltype(cublasLtMatmulDescSetAttribute)>::value);
static_assert(SameCalls<decltype(Functions::destroy_operation), decltype(cublasLtMatmulDescDestroy)>::value);
static_assert(SameCalls<decltype(Functions::create_layout), decltype(cublasLtMatrixLayoutCreate)>::value);
static_assert(SameCalls<decltype(Functions::set_layout), decltype(cublasLtMatrixLayoutSetAttribute)>::value);
static_assert(SameCalls<decltype(Functions::destroy_layout), decltype(cublasLtMatrixLayoutDestroy)>::value);
static_assert(SameCalls<decltype(Functions::create_preference), decltype(cublasLtMatmulPreferenceCreate)>::value);
static_assert(SameCalls<decltype(Functions::set_preference), decltype(cublasLtMatmulPreferenceSetAttribute)>::value);
static_assert(SameCalls<decltype(Functions::destroy_preference), decltype(cublasLtMatmulPreferenceDestroy)>::value);
static_assert(SameCalls<decltype(Functions::choose), decltype(cublasLtMatmulAlgoGetHeuristic)>::value);
static_assert(SameCalls<decltype(Functions::multiply), decltype(cublasLtMatmul)>::value);
}  // namespace cublas
#endif

#if PALIMPSEST_SEES_CUDNN
namespace cudnn {
static_assert(sizeof(Choice) == sizeof(cudnnConvolutionFwdAlgoPerf_t) &&
              sizeof(Choice) == sizeof(cudnnConvolutionBwdDataAlgoPerf_t) &&
              sizeof(Choice) == sizeof(cudnnConvolutionBwdFilterAlgoPerf_t) &&
              offsetof(Choice, status) == offsetof(cudnnConvolutionFwdAlgoPerf_t, status) &&
              offsetof(Choice, memory) == offsetof(cudnnConvolutionFwdAlgoPerf_t, memory) &&
              offsetof(Choice, deterministic) == offsetof(cudnnConvolutionFwdAlgoPerf_t, determinism) &&
              offsetof(Choice, arithmetic) == offsetof(cudnnConvolutionFwdAlgoPerf_t, mathType));
static_assert(success == CUDNN_STATUS_SUCCESS && real_32 == CUDNN_DATA_FLOAT && channels_last == CUDNN_TENSOR_NHWC);
static_assert(cross_correlation == CUDNN_CROSS_CORRELATION && is_deterministic == CUDNN_DETERMINISTIC);
static_assert(default_arithmetic == CUDNN_DEFAULT_MATH && fma_arithmetic == CUDNN_FMA_MATH);
static_assert(SameCalls<decltype(Functions::get_version), decltype(cudnnGetVersion)>::value);
static_assert(SameCalls<decltype(Functions::get_error_string), decltype(cudnnGetErrorString)>::value);
static_assert(SameCalls<decltype(Functions::create), decltype(cudnnCreate)>::value);
static_assert(SameCalls<decltype(Functions::set_stream), decltype(cudnnSetStream)>::value);
static_assert(SameCalls<decltype(Functions::create_tensor), decltype(cudnnCreateTensorDescriptor)>::value);
static_assert(SameCalls<decltype(Functions::set_tensor), decltype(cudnnSetTensor4dDescriptor)>::value);
static_assert(SameCalls<decltype(Functions::create_filter), decltype(cudnnCreateFilterDescriptor)>::value);
static_assert(SameCalls<decltype(Functions::set_filter), decltype(cudnnSetFilter4dDescriptor)>::value);
static_assert(SameCalls<decltype(Functions::create_convolution), decltype(cudnnCreateConvolutionDescriptor)>::value);
static_assert(SameCalls<decltype(Functions::set_convolution), decltype(cudnnSetConvolution2dDescriptor)>::value);
static_assert(SameCalls<decltype(Functions::set_groups), decltype(cudnnSetConvolutionGroupCount)>::value);
static_assert(SameCalls<decltype(Functions::set_arithmetic), decltype(cudnnSetConvolutionMathType)>::value);
static_assert(SameCalls<decltype(Functions::choose_forward), decltype(cudnnGetConvolutionForwardAlgorithm_v7)>::value);
static_assert(SameCalls<decltype(Functions::choose_input_gradient),
                        decltype(cudnnGetConvolutionBackwardDataAlgorithm_v7)>::value);
static_assert(SameCalls<decltype(Functions::choose_weight_gradient),
                        decltype(cudnnGetConvolutionBackwardFilterAlgorithm_v7)>::value);
static_assert(SameCalls<decltype(Functions::forward), decltype(cudnnConvolutionForward)>::value);
static_assert(SameCalls<decltype(Functions::input_gradient), decltype(cudnnConvolutionBackwardData)>::value);
static_assert(SameCalls<decltype(Functions::weight_gradient), decltype(cudnnConvolutionBackwardFilter)>::value);
}  // namespace cudnn
#endif

}  // namespace palimpsest::cuda
