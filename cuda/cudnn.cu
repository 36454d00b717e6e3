// Convolutions by cuDNN's convolution calls, which take channels-last float32 without building graphs of operations.
#include "cuda/cudnn.h"

#include <array>
#include <map>
#include <mutex>

#include "core/error.h"
#include "cuda/cudnn_api.h"
#include "cuda/launch.h"

namespace palimpsest::cuda {

namespace {

constexpr size_t oldest = 90000, too_new = 100000;  // 9.0 until 10.0
constexpr size_t most_memory = size_t{1} << 30;     // that an algorithm may work in

enum class Way { forward, input_gradient, weight_gradient };

// The algorithms that add products up as they are: Fourier and Winograd transforms lose digits that the tolerances of
// our kernels do not allow. Number 3 is plain forwards and for weights, and tiled Fourier for inputs.
bool is_plain(Way way, int algorithm) {
  if (way == Way::input_gradient) return algorithm == 0 || algorithm == 1;
  return way == Way::forward ? algorithm >= 0 && algorithm <= 3 : algorithm == 0 || algorithm == 1 || algorithm == 3;
}

struct Plan {
  bool taken = false;
  cudnn::TensorShape x = nullptr, y = nullptr;
  cudnn::FilterShape w = nullptr;
  cudnn::Convolution convolution = nullptr;
  cudnn::Choice choice{};
};
using PlanKey = std::array<int64_t, 20>;

struct Cudnn {
  Library library{{"cuDNN",
                   "PALIMPSEST_CUDNN",
                   {"libcudnn.so.9"},
                   {"nvidia/cudnn/lib"},
                   "pip install nvidia-cudnn-cu13 (or -cu12 for a driver of CUDA 12)"}};
  cudnn::Functions call{};
  std::mutex mutex;
  std::map<int, cudnn::Handle> handles;  // of a device
  std::map<PlanKey, Plan> plans;

  Cudnn() {
    library.load(call.get_version, "cudnnGetVersion");
    library.load(call.get_error_string, "cudnnGetErrorString");
    library.load(call.create, "cudnnCreate");
    library.load(call.set_stream, "cudnnSetStream");
    library.load(call.create_tensor, "cudnnCreateTensorDescriptor");
    library.load(call.set_tensor, "cudnnSetTensor4dDescriptor");
    library.load(call.create_filter, "cudnnCreateFilterDescriptor");
    library.load(call.set_filter, "cudnnSetFilter4dDescriptor");
    library.load(call.create_convolution, "cudnnCreateConvolutionDescriptor");
    library.load(call.set_convolution, "cudnnSetConvolution2dDescriptor");
    library.load(call.set_groups, "cudnnSetConvolutionGroupCount");
    library.load(call.set_arithmetic, "cudnnSetConvolutionMathType");
    library.load(call.choose_forward, "cudnnGetConvolutionForwardAlgorithm_v7");
    library.load(call.choose_input_gradient, "cudnnGetConvolutionBackwardDataAlgorithm_v7");
    library.load(call.choose_weight_gradient, "cudnnGetConvolutionBackwardFilterAlgorithm_v7");
    library.load(call.forward, "cudnnConvolutionForward");
    library.load(call.input_gradient, "cudnnConvolutionBackwardData");
    library.load(call.weight_gradient, "cudnnConvolutionBackwardFilter");
    if (!library.is_open()) return;
    const size_t version = call.get_version();
    library.state().version = std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
                              std::to_string(version % 100);
    if (version < oldest || version >= too_new) {
      // Version 8 counted in thousands.
      library.refuse("expected version 9, found " +
                     (version < 10000 ? std::to_string(version / 1000) + "." + std::to_string(version / 100 % 10)
                                      : library.state().version));
    }
  }

  // Null where the library cannot be started on the device, which then takes no part.
  cudnn::Handle handle(const Device& device) {
    const auto found = handles.find(device.ordinal());
    if (found != handles.end()) return found->second;
    cudnn::Handle handle = nullptr;
    const int status = call.create(&handle);
    if (status != cudnn::success) library.refuse(std::string("cudnnCreate: ") + call.get_error_string(status));
    return handles[device.ordinal()] = handle;
  }

  Plan make_plan(cudnn::Handle handle, Way way, const ConvShape& s, bool tf32);
  // Null where the library does not take the shape.
  Plan* plan(Device& device, Way way, const ConvShape& s, std::initializer_list<const void*> data);
  void check(int status, const char* doing) {
    if (status == cudnn::success) return;
    throw Error(ErrorCode::device, std::string("cuDNN failed at ") + doing + ": " + call.get_error_string(status) +
                                       "; PALIMPSEST_CUDNN=none runs without it");
  }
};

Cudnn& cudnn_library() {
  static Cudnn* library = new Cudnn;  // outlives whatever still runs at the end of the process
  return *library;
}

// Output positions with the same pad on both sides.
int64_t positions(int64_t size, int64_t pad, int64_t kernel, int64_t stride, int64_t dilation) {
  const int64_t room = size + 2 * pad - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

bool has_even_pads(const ConvShape& s) {
  return positions(s.h, s.pad_top, s.kh, s.stride_h, s.dilation_h) == s.oh &&
         positions(s.w, s.pad_left, s.kw, s.stride_w, s.dilation_w) == s.ow;
}

bool counts_in_32_bits(const ConvShape& s) {
  constexpr int64_t most = INT32_MAX;
  for (const int64_t size : {s.n, s.c, s.h, s.w, s.o, s.oh, s.ow, s.kh, s.kw}) {
    if (size < 1 || size > most) return false;
  }
  return s.n * s.h * s.w <= most / s.c && s.n * s.oh * s.ow <= most / s.o;
}

Plan Cudnn::make_plan(cudnn::Handle handle, Way way, const ConvShape& s, bool tf32) {
  Plan plan;
  const auto i = [](int64_t value) { return static_cast<int>(value); };
  int status = call.create_tensor(&plan.x);
  const auto then = [&](auto step) {
    if (status == cudnn::success) status = step();
  };
  constexpr int format = cudnn::channels_last, type = cudnn::real_32;
  then([&] { return call.create_tensor(&plan.y); });
  then([&] { return call.create_filter(&plan.w); });
  then([&] { return call.create_convolution(&plan.convolution); });
  then([&] { return call.set_tensor(plan.x, format, type, i(s.n), i(s.c), i(s.h), i(s.w)); });
  then([&] { return call.set_tensor(plan.y, format, type, i(s.n), i(s.o), i(s.oh), i(s.ow)); });
  then([&] { return call.set_filter(plan.w, type, format, i(s.o), i(s.c / s.groups), i(s.kh), i(s.kw)); });
  then([&] {
    return call.set_convolution(plan.convolution, i(s.pad_top), i(s.pad_left), i(s.stride_h), i(s.stride_w),
                                i(s.dilation_h), i(s.dilation_w), cudnn::cross_correlation, type);
  });
  then([&] { return call.set_groups(plan.convolution, i(s.groups)); });
  const int arithmetic = tf32 ? cudnn::default_arithmetic : cudnn::fma_arithmetic;
  then([&] { return call.set_arithmetic(plan.convolution, arithmetic); });
  constexpr int most = 10;
  cudnn::Choice choices[most] = {};
  int found = 0;
  then([&] {
    if (way == Way::forward) {
      return call.choose_forward(handle, plan.x, plan.w, plan.convolution, plan.y, most, &found, choices);
    }
    if (way == Way::input_gradient) {
      return call.choose_input_gradient(handle, plan.w, plan.y, plan.convolution, plan.x, most, &found, choices);
    }
    return call.choose_weight_gradient(handle, plan.x, plan.y, plan.convolution, plan.w, most, &found, choices);
  });
  for (int at = 0; status == cudnn::success && at < found && !plan.taken; ++at) {
    const cudnn::Choice& choice = choices[at];
    plan.taken = choice.status == cudnn::success && choice.deterministic == cudnn::is_deterministic &&
                 is_plain(way, choice.algorithm) && choice.memory <= most_memory &&
                 (tf32 || choice.arithmetic == cudnn::fma_arithmetic);
    plan.choice = choice;
  }
  if (plan.taken) status = call.set_arithmetic(plan.convolution, plan.choice.arithmetic);
  plan.taken &= status == cudnn::success;
  return plan;
}

Plan* Cudnn::plan(Device& device, Way way, const ConvShape& s, std::initializer_list<const void*> data) {
  if (!library.is_open() || !has_even_pads(s) || !counts_in_32_bits(s)) return nullptr;
  for (const void* at : data) {
    if (reinterpret_cast<size_t>(at) % 16 != 0) return nullptr;
  }
  cudnn::Handle started = handle(device);
  if (!library.is_open()) return nullptr;
  // The device of this number may be another than the one before, of another stream.
  check(call.set_stream(started, device.stream()), "taking a stream");
  const bool tf32 = device.precision() == Precision::tf32;
  const PlanKey key{device.ordinal(),
                    static_cast<int64_t>(way),
                    tf32,
                    s.n,
                    s.c,
                    s.h,
                    s.w,
                    s.o,
                    s.oh,
                    s.ow,
                    s.kh,
                    s.kw,
                    s.stride_h,
                    s.stride_w,
                    s.dilation_h,
                    s.dilation_w,
                    s.pad_top,
                    s.pad_left,
                    s.groups,
                    0};
  auto found = plans.find(key);
  if (found == plans.end()) found = plans.emplace(key, make_plan(started, way, s, tf32)).first;
  return found->second.taken ? &found->second : nullptr;
}

// [rows][columns] of each o -> [columns][rows]
__global__ void turn_weights_kernel(int64_t size, int rows, int columns, const float* from, float* to) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= size) return;
  const int64_t of_output = static_cast<int64_t>(rows) * columns, o = at / of_output, e = at % of_output;
  to[at] = from[o * of_output + e % rows * columns + e / rows];
}

void turn_weights(Device& device, int64_t outputs, int64_t rows, int64_t columns, const float* from, float* to) {
  constexpr int threads = 256;
  const int64_t size = outputs * rows * columns;
  launch(device, "turning weights for cuDNN", turn_weights_kernel, dim3(grid_of(size, threads)), dim3(threads), 0, size,
         static_cast<int>(rows), static_cast<int>(columns), from, to);
}

// The library's weights [O, KH, KW, C/groups] behind its working memory, which may be none.
struct LibraryMemory {
  float* w;
  void* workspace;
};
LibraryMemory memory_of(Device& device, const ConvShape& s, const Plan& plan) {
  const size_t memory = (plan.choice.memory + 255) / 256 * 256;
  const size_t weights = static_cast<size_t>(s.o * (s.c / s.groups) * s.kh * s.kw) * sizeof(float);
  auto* start = static_cast<char*>(device.workspace(Slot::conv_library, memory + weights));
  return {reinterpret_cast<float*>(start + memory), plan.choice.memory == 0 ? nullptr : start};
}

constexpr float one = 1, zero = 0;

}  // namespace

bool cudnn_conv(Device& device, const ConvShape& s, const float* x, const float* w, float* y) {
  if (!libraries_used()) return false;
  Cudnn& cudnn = cudnn_library();
  const std::lock_guard lock(cudnn.mutex);
  const Plan* plan = cudnn.plan(device, Way::forward, s, {x, y});
  if (plan == nullptr) return false;
  const LibraryMemory memory = memory_of(device, s, *plan);
  turn_weights(device, s.o, s.c / s.groups, s.kh * s.kw, w, memory.w);
  cudnn.check(cudnn.call.forward(cudnn.handle(device), &one, plan->x, x, plan->w, memory.w, plan->convolution,
                                 plan->choice.algorithm, memory.workspace, plan->choice.memory, &zero, plan->y, y),
              "a convolution");
  return true;
}

bool cudnn_conv_input_gradient(Device& device, const ConvShape& s, const float* w, const float* y_bar, float* x_bar) {
  if (!libraries_used()) return false;
  Cudnn& cudnn = cudnn_library();
  const std::lock_guard lock(cudnn.mutex);
  const Plan* plan = cudnn.plan(device, Way::input_gradient, s, {y_bar, x_bar});
  if (plan == nullptr) return false;
  const LibraryMemory memory = memory_of(device, s, *plan);
  turn_weights(device, s.o, s.c / s.groups, s.kh * s.kw, w, memory.w);
  cudnn.check(
      cudnn.call.input_gradient(cudnn.handle(device), &one, plan->w, memory.w, plan->y, y_bar, plan->convolution,
                                plan->choice.algorithm, memory.workspace, plan->choice.memory, &zero, plan->x, x_bar),
      "an input gradient");
  return true;
}

bool cudnn_conv_weight_gradient(Device& device, const ConvShape& s, const float* x, const float* y_bar, float* w_bar) {
  if (!libraries_used()) return false;
  Cudnn& cudnn = cudnn_library();
  const std::lock_guard lock(cudnn.mutex);
  const Plan* plan = cudnn.plan(device, Way::weight_gradient, s, {x, y_bar});
  if (plan == nullptr) return false;
  const LibraryMemory memory = memory_of(device, s, *plan);
  cudnn.check(cudnn.call.weight_gradient(cudnn.handle(device), &one, plan->x, x, plan->y, y_bar, plan->convolution,
                                         plan->choice.algorithm, memory.workspace, plan->choice.memory, &zero, plan->w,
                                         memory.w),
              "a weight gradient");
  turn_weights(device, s.o, s.kh * s.kw, s.c / s.groups, memory.w, w_bar);
  return true;
}

LibraryState cudnn_state() {
  Cudnn& cudnn = cudnn_library();
  const std::lock_guard lock(cudnn.mutex);
  return cudnn.library.state();
}

}  // namespace palimpsest::cuda
