// What we call of cuDNN 9, declared by ourselves: no header of it is needed to build, and where its header is at hand
// library_headers.cpp compares the two.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace palimpsest::cuda::cudnn {

using Handle = struct HandleOfLibrary*;
using TensorShape = struct TensorOfLibrary*;
using FilterShape = struct FilterOfLibrary*;
using Convolution = struct ConvolutionOfLibrary*;

// What the library says of an algorithm; the three kinds of algorithms are laid out alike.
struct Choice {
  int algorithm, status;
  float time;
  size_t memory;
  int deterministic, arithmetic;
  int reserved[3];
};

constexpr int success = 0;
constexpr int real_32 = 0;                                 // cudnnDataType_t
constexpr int channels_last = 1;                           // cudnnTensorFormat_t
constexpr int cross_correlation = 1;                       // cudnnConvolutionMode_t
constexpr int default_arithmetic = 0, fma_arithmetic = 3;  // cudnnMathType_t; the default may round factors to TF32
constexpr int is_deterministic = 1;                        // cudnnDeterminism_t

struct Functions {
  size_t (*get_version)();
  const char* (*get_error_string)(int status);
  int (*create)(Handle* handle);
  int (*set_stream)(Handle handle, cudaStream_t stream);
  int (*create_tensor)(TensorShape* tensor);
  int (*set_tensor)(TensorShape tensor, int format, int type, int n, int c, int h, int w);
  int (*create_filter)(FilterShape* filter);
  int (*set_filter)(FilterShape filter, int type, int format, int o, int c, int h, int w);
  int (*create_convolution)(Convolution* convolution);
  int (*set_convolution)(Convolution convolution, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
                         int dilation_w, int mode, int type);
  int (*set_groups)(Convolution convolution, int groups);
  int (*set_arithmetic)(Convolution convolution, int arithmetic);
  int (*choose_forward)(Handle, TensorShape x, FilterShape w, Convolution, TensorShape y, int wanted, int* found,
                        Choice* choices);
  int (*choose_input_gradient)(Handle, FilterShape w, TensorShape y, Convolution, TensorShape x, int wanted, int* found,
                               Choice* choices);
  int (*choose_weight_gradient)(Handle, TensorShape x, TensorShape y, Convolution, FilterShape w, int wanted,
                                int* found, Choice* choices);
  int (*forward)(Handle, const void* alpha, TensorShape, const void* x, FilterShape, const void* w, Convolution,
                 int algorithm, void* workspace, size_t bytes, const void* beta, TensorShape, void* y);
  int (*input_gradient)(Handle, const void* alpha, FilterShape, const void* w, TensorShape, const void* y, Convolution,
                        int algorithm, void* workspace, size_t bytes, const void* beta, TensorShape, void* x);
  int (*weight_gradient)(Handle, const void* alpha, TensorShape, const void* x, TensorShape, const void* y, Convolution,
                         int algorithm, void* workspace, size_t bytes, const void* beta, FilterShape, void* w);
};

}  // namespace palimpsest::cuda::cudnn
