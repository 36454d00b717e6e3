// A cuDNN in plain loops for the emulator: the calls that cuda/cudnn.cu makes, checked for what the library demands of
// them.
#include <cstdint>
#include <cstring>

#include "pretend_libraries.h"

using cuda_host::on_device;

namespace {

constexpr int success = 0, bad = 2000, not_supported = 3000;

struct TensorShape {
  int n, c, h, w;
};
struct Convolution {
  int pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, groups = 1, arithmetic = 0;
};
struct Choice {
  int algorithm, status;
  float time;
  size_t memory;
  int deterministic, arithmetic;
  int reserved[3];
};
int handle_of_library;
cudaStream_t taken_stream = nullptr;
constexpr size_t working_memory = 4000;

int positions(int size, int pad, int kernel, int stride, int dilation) {
  return (size + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
}

bool fits(const TensorShape& x, const TensorShape& w, const Convolution& c, const TensorShape& y) {
  return x.n == y.n && w.n == y.c && w.c * c.groups == x.c && y.c % c.groups == 0 &&
         y.h == positions(x.h, c.pad_h, w.h, c.stride_h, c.dilation_h) &&
         y.w == positions(x.w, c.pad_w, w.w, c.stride_w, c.dilation_w);
}

// visit(x, w, y) of every product of a convolution, as offsets into channels-last memory.
template <class Visit>
void each(const TensorShape& x, const TensorShape& w, const Convolution& c, const TensorShape& y, Visit visit) {
  const int out = y.c / c.groups;
  for (int64_t n = 0; n < y.n; ++n) {
    for (int64_t i = 0; i < y.h; ++i) {
      for (int64_t j = 0; j < y.w; ++j) {
        for (int64_t o = 0; o < y.c; ++o) {
          for (int64_t a = 0; a < w.h; ++a) {
            for (int64_t b = 0; b < w.w; ++b) {
              const int64_t h = i * c.stride_h + a * c.dilation_h - c.pad_h;
              const int64_t column = j * c.stride_w + b * c.dilation_w - c.pad_w;
              if (h < 0 || h >= x.h || column < 0 || column >= x.w) continue;
              for (int64_t k = 0; k < w.c; ++k) {
                visit(((n * x.h + h) * x.w + column) * x.c + o / out * w.c + k, ((o * w.h + a) * w.w + b) * w.c + k,
                      ((n * y.h + i) * y.w + j) * y.c + o);
              }
            }
          }
        }
      }
    }
  }
}

// The first choice gives other sums every time, the second is a transform, the third is taken, without the TF32 of the
// default arithmetic.
int choose(const TensorShape& x, const TensorShape& w, const Convolution& c, const TensorShape& y, int transform,
           int plain, int wanted, int* found, Choice* choices) {
  *found = 0;
  if (!fits(x, w, c, y) || wanted < 4) return bad;
  if (y.c == 7) return not_supported;
  choices[0] = {0, success, 1, 0, 0, c.arithmetic, {}};
  choices[1] = {transform, success, 2, 0, 1, c.arithmetic, {}};
  choices[2] = {plain, not_supported, 3, 0, 1, c.arithmetic, {}};
  choices[3] = {plain, success, 4, y.c % 2 == 0 ? working_memory : 0, 1, c.arithmetic, {}};
  return *found = 4, success;
}

bool has_memory(const TensorShape& y, void* workspace, size_t bytes) {
  const bool needs = y.c % 2 == 0;
  if (needs && workspace != nullptr) on_device(taken_stream, [=] { std::memset(workspace, 0xFF, bytes); });
  return bytes == (needs ? working_memory : 0) && (workspace != nullptr) == needs;
}

size_t cudnnGetVersion() { return 91000; }
const char* cudnnGetErrorString(int) { return "a pretended failure"; }
int cudnnCreate(void** handle) { return *handle = &handle_of_library, success; }
int cudnnSetStream(void* handle, cudaStream_t stream) {
  taken_stream = stream;
  return handle == &handle_of_library ? success : bad;
}
int cudnnCreateTensorDescriptor(TensorShape** tensor) { return *tensor = new TensorShape{}, success; }
int cudnnSetTensor4dDescriptor(TensorShape* tensor, int format, int type, int n, int c, int h, int w) {
  if (format != 1 || type != 0 || n < 1 || c < 1 || h < 1 || w < 1) return bad;
  return *tensor = {n, c, h, w}, success;
}
int cudnnCreateFilterDescriptor(TensorShape** filter) { return *filter = new TensorShape{}, success; }
int cudnnSetFilter4dDescriptor(TensorShape* filter, int type, int format, int o, int c, int h, int w) {
  if (format != 1 || type != 0 || o < 1 || c < 1 || h < 1 || w < 1) return bad;
  return *filter = {o, c, h, w}, success;
}
int cudnnCreateConvolutionDescriptor(Convolution** convolution) { return *convolution = new Convolution{}, success; }
int cudnnSetConvolution2dDescriptor(Convolution* c, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
                                    int dilation_w, int mode, int type) {
  if (mode != 1 || type != 0) return bad;
  c->pad_h = pad_h, c->pad_w = pad_w, c->stride_h = stride_h, c->stride_w = stride_w;
  c->dilation_h = dilation_h, c->dilation_w = dilation_w;
  return success;
}
int cudnnSetConvolutionGroupCount(Convolution* c, int groups) { return c->groups = groups, success; }
int cudnnSetConvolutionMathType(Convolution* c, int arithmetic) { return c->arithmetic = arithmetic, success; }

int cudnnGetConvolutionForwardAlgorithm_v7(void*, TensorShape* x, TensorShape* w, Convolution* c, TensorShape* y,
                                           int wanted, int* found, Choice* choices) {
  return choose(*x, *w, *c, *y, 6, 1, wanted, found, choices);
}
int cudnnGetConvolutionBackwardDataAlgorithm_v7(void*, TensorShape* w, TensorShape* y, Convolution* c, TensorShape* x,
                                                int wanted, int* found, Choice* choices) {
  return choose(*x, *w, *c, *y, 4, 1, wanted, found, choices);
}
int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void*, TensorShape* x, TensorShape* y, Convolution* c, TensorShape* w,
                                                  int wanted, int* found, Choice* choices) {
  return choose(*x, *w, *c, *y, 5, 1, wanted, found, choices);
}

int cudnnConvolutionForward(void*, const void* alpha, TensorShape* x_shape, const float* x, TensorShape* w_shape,
                            const float* w, Convolution* c, int algorithm, void* workspace, size_t bytes,
                            const void* beta, TensorShape* y_shape, float* y) {
  if (algorithm != 1 || c->arithmetic != 3 || *static_cast<const float*>(alpha) != 1 ||
      *static_cast<const float*>(beta) != 0 || !has_memory(*y_shape, workspace, bytes)) {
    return bad;
  }
  on_device(taken_stream, [=] {
    std::memset(y, 0, sizeof(float) * static_cast<size_t>(y_shape->n) * y_shape->c * y_shape->h * y_shape->w);
    each(*x_shape, *w_shape, *c, *y_shape, [&](int64_t i, int64_t j, int64_t k) { y[k] += x[i] * w[j]; });
  });
  return success;
}
int cudnnConvolutionBackwardData(void*, const void* alpha, TensorShape* w_shape, const float* w, TensorShape* y_shape,
                                 const float* y, Convolution* c, int algorithm, void* workspace, size_t bytes,
                                 const void* beta, TensorShape* x_shape, float* x) {
  if (algorithm != 1 || c->arithmetic != 3 || *static_cast<const float*>(alpha) != 1 ||
      *static_cast<const float*>(beta) != 0 || !has_memory(*y_shape, workspace, bytes)) {
    return bad;
  }
  on_device(taken_stream, [=] {
    std::memset(x, 0, sizeof(float) * static_cast<size_t>(x_shape->n) * x_shape->c * x_shape->h * x_shape->w);
    each(*x_shape, *w_shape, *c, *y_shape, [&](int64_t i, int64_t j, int64_t k) { x[i] += y[k] * w[j]; });
  });
  return success;
}
int cudnnConvolutionBackwardFilter(void*, const void* alpha, TensorShape* x_shape, const float* x, TensorShape* y_shape,
                                   const float* y, Convolution* c, int algorithm, void* workspace, size_t bytes,
                                   const void* beta, TensorShape* w_shape, float* w) {
  if (algorithm != 1 || c->arithmetic != 3 || *static_cast<const float*>(alpha) != 1 ||
      *static_cast<const float*>(beta) != 0 || !has_memory(*y_shape, workspace, bytes)) {
    return bad;
  }
  on_device(taken_stream, [=] {
    std::memset(w, 0, sizeof(float) * static_cast<size_t>(w_shape->n) * w_shape->c * w_shape->h * w_shape->w);
    each(*x_shape, *w_shape, *c, *y_shape, [&](int64_t i, int64_t j, int64_t k) { w[j] += x[i] * y[k]; });
  });
  return success;
}

}  // namespace

void* cuda_host::pretended_cudnn_function(const std::string& name) {
#define PRETENDED(function) \
  if (name == #function) return reinterpret_cast<void*>(&function)
  PRETENDED(cudnnGetVersion);
  PRETENDED(cudnnGetErrorString);
  PRETENDED(cudnnCreate);
  PRETENDED(cudnnSetStream);
  PRETENDED(cudnnCreateTensorDescriptor);
  PRETENDED(cudnnSetTensor4dDescriptor);
  PRETENDED(cudnnCreateFilterDescriptor);
  PRETENDED(cudnnSetFilter4dDescriptor);
  PRETENDED(cudnnCreateConvolutionDescriptor);
  PRETENDED(cudnnSetConvolution2dDescriptor);
  PRETENDED(cudnnSetConvolutionGroupCount);
  PRETENDED(cudnnSetConvolutionMathType);
  PRETENDED(cudnnGetConvolutionForwardAlgorithm_v7);
  PRETENDED(cudnnGetConvolutionBackwardDataAlgorithm_v7);
  PRETENDED(cudnnGetConvolutionBackwardFilterAlgorithm_v7);
  PRETENDED(cudnnConvolutionForward);
  PRETENDED(cudnnConvolutionBackwardData);
  PRETENDED(cudnnConvolutionBackwardFilter);
#undef PRETENDED
  return nullptr;
}
