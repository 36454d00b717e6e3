// THE KERNEL TABLE: every computation a device must offer, a pure virtual a line. Each backend implements all of it.
#pragma once

#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/elementwise.h"
#include "core/error.h"
#include "core/tensor.h"

namespace palimpsest {

// Two-dimensional convolution or pooling. Activations are channels-last: x [N, H, W, C], y [N, OH, OW, O];
// weights are ONNX's row-major w [O, C/groups, KH, KW].
struct ConvShape {
  int64_t n = 0, c = 0, h = 0, w = 0;
  int64_t o = 0, oh = 0, ow = 0;
  int64_t kh = 1, kw = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  int64_t pad_top = 0, pad_left = 0;  // the bottom and right pads follow from oh and ow
  int64_t groups = 1;

  friend bool operator==(const ConvShape&, const ConvShape&) = default;
};

// c[i] (M,N) = alpha op(a[i]) (M,K) op(b[i]) (K,N) + beta c[i], for i < batch. Leading dimensions in elements.
struct GemmShape {
  int64_t batch = 1, m = 0, n = 0, k = 0;
  bool trans_a = false, trans_b = false;
  int64_t lda = 0, ldb = 0, ldc = 0;
  int64_t stride_a = 0, stride_b = 0, stride_c = 0;  // between batch entries; 0 repeats one matrix
  double alpha = 1, beta = 0;

  friend bool operator==(const GemmShape&, const GemmShape&) = default;
};

// SGD as PyTorch defines it: g += weight_decay w; v = momentum v + g; w -= rate (nesterov ? g + momentum v : v).
struct SgdStep {
  double rate = 0, momentum = 0, weight_decay = 0;
  bool nesterov = false;
};

// What a batch gather does to each row of a uint8 or float32 store: crop, flip, (value * scale[c] + shift[c]).
struct GatherSpec {
  int64_t channels = 0, height = 0, width = 0;  // of a row; height = width = 1 for vectors
  int64_t pad = 0;                              // zero border (after normalisation) that the crop may reach into
  std::span<const float> scale, shift;          // per channel, or one value for all
};
struct GatherRow {
  int64_t index = 0;       // row of the store
  int32_t dy = 0, dx = 0;  // crop offset in the padded image; pad, pad is the centre
  bool flip = false;       // left to right
};

// What float32 products may do to their factors: nothing, or rounding to TF32 (10 bits) where the device is quicker so.
enum class Precision : uint8_t { float32, tf32 };

// What follows a product on its way to memory: input 0 of the program is the product's result, which lies where the
// program's one output goes; the others are strided over its dims.
struct Epilogue {
  const ElementwiseProgram& program;
  std::span<const Tensor> inputs;
};

// How a device computes. The same settings give the same bits.
struct DeviceSettings {
  int threads = 0;              // of every kernel; 0 where the device has no such thing
  std::string instruction_set;  // one of instruction_sets()

  friend bool operator==(const DeviceSettings&, const DeviceSettings&) = default;
};

// Bytes of `allocate` and of the kernels' working memory.
struct MemoryUse {
  size_t held = 0, peak = 0;  // now, and the most since reset_peak
  // What may still be had: of the machine, of the process's share of it, of the limit. The largest number: not known.
  size_t free = std::numeric_limits<size_t>::max();
  size_t limit = 0;  // of `held`; 0: none
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string name() const = 0;         // "cpu", "cuda:0"
  virtual std::string description() const = 0;  // instruction set, libraries, threads

  // Memory of the device, 64-byte aligned. Throws ERR_OUT_OF_MEMORY naming bytes asked and free.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* data) noexcept = 0;
  virtual void copy_in(void* device, const void* host, size_t bytes) = 0;
  virtual void copy_out(void* host, const void* device, size_t bytes) = 0;

  // What a device can be asked and told besides kernels. One that has nothing to say keeps these.
  virtual MemoryUse memory_use() const { return {}; }
  virtual void reset_peak() {}
  virtual void limit_memory(size_t bytes) {  // 0: none
    if (bytes > 0) throw Error(ErrorCode::unsupported, "expected no limit of memory for " + name());
  }
  // Working memory by kind: notes from now on; what kernels have asked for since.
  virtual void watch_working_memory() {}
  virtual std::vector<size_t> working_memory() const { return {}; }
  virtual DeviceSettings settings() const { return {}; }
  virtual std::vector<std::string> instruction_sets() const { return {}; }  // that settings may ask for, the best last
  // Between kernels only. threads 0 and an empty set leave them. Throws ERR_INVALID_ARGUMENT for what the device does
  // not have, ERR_UNSUPPORTED where a library that has begun cannot change; then nothing is changed.
  virtual void configure(const DeviceSettings& settings) {
    if (settings != DeviceSettings{}) throw Error(ErrorCode::unsupported, "expected no settings for " + name());
  }

  // Moving values. Tensors here may have any strides; dims of x and y agree.
  virtual void fill(const Tensor& y, double value) = 0;
  virtual void copy(const Tensor& x, const Tensor& y) = 0;      // y = x, converts between f32 and f64
  virtual void add_into(const Tensor& x, const Tensor& y) = 0;  // y += x, same dims, no broadcast y

  // All elementwise work: outputs share `dims`; inputs and outputs have strides over dims (0 broadcasts an input).
  virtual void elementwise(const ElementwiseProgram& program, std::span<const Tensor> inputs,
                           std::span<const Tensor> outputs) = 0;

  // y = alpha sum of x over the axes where y has size 1 and x has not. Same rank. Accumulates in float64.
  virtual void reduce_sum(const Tensor& x, const Tensor& y, double alpha) = 0;
  // y = max over `axis` (kept with size 1), index (i32, dims of y) = the first position of it.
  virtual void reduce_max(const Tensor& x, int axis, const Tensor& y, const Tensor& index) = 0;
  // y[.., 0, ..] = x[.., index, ..] and its adjoint x_bar = scatter(y_bar) (x_bar is written whole).
  virtual void take_along_axis(const Tensor& x, const Tensor& index, int axis, const Tensor& y) = 0;
  virtual void put_along_axis(const Tensor& y_bar, const Tensor& index, int axis, const Tensor& x_bar) = 0;
  // y[.., j, ..] = x[.., indices[j], ..] along axis, and its adjoint, which sums repeated indices in order.
  virtual void gather(const Tensor& x, std::span<const int64_t> indices, int axis, const Tensor& y) = 0;
  virtual void scatter_add(const Tensor& y_bar, std::span<const int64_t> indices, int axis, const Tensor& x_bar) = 0;
  // Along `axis`, stable: y = e^{x - max} / sum, or x - max - log sum. Any strides.
  virtual void softmax(const Tensor& x, int axis, const Tensor& y) = 0;
  virtual void log_softmax(const Tensor& x, int axis, const Tensor& y) = 0;

  // Matrix products: dense row-major matrices.
  virtual void gemm(const GemmShape& shape, const Tensor& a, const Tensor& b, const Tensor& c) = 0;

  // c = epilogue(alpha op(a) op(b) + beta c), in one pass where the device has a kernel for that.
  virtual void gemm_epilogue(const GemmShape& shape, const Tensor& a, const Tensor& b, const Tensor& c,
                             const Epilogue& epilogue) {
    gemm(shape, a, b, c);
    elementwise(epilogue.program, epilogue.inputs, {&c, 1});
  }

  // Convolution and its two adjoints. Activations dense channels-last, weights dense row-major.
  virtual void conv(const ConvShape& shape, const Tensor& x, const Tensor& w, const Tensor& y) = 0;
  virtual void conv_epilogue(const ConvShape& shape, const Tensor& x, const Tensor& w, const Tensor& y,
                             const Epilogue& epilogue) {
    conv(shape, x, w, y);
    elementwise(epilogue.program, epilogue.inputs, {&y, 1});
  }
  virtual void conv_input_gradient(const ConvShape& shape, const Tensor& w, const Tensor& y_bar,
                                   const Tensor& x_bar) = 0;
  virtual void conv_weight_gradient(const ConvShape& shape, const Tensor& x, const Tensor& y_bar,
                                    const Tensor& w_bar) = 0;

  // Per-example squares: s[o, i, ..] = sum_n (sum_p patches(x)[n, p, i..] y_bar[n, p, o])^2, written whole.
  virtual void conv_grad_squares(const ConvShape& shape, const Tensor& x, const Tensor& y_bar, const Tensor& s) = 0;
  // s [I, O] = sum_n (sum_t x[n, t, i] y_bar[n, t, o])^2 for x [N, T, I], y_bar [N, T, O] dense row-major.
  virtual void linear_grad_squares(int64_t n, int64_t t, int64_t i, int64_t o, const Tensor& x, const Tensor& y_bar,
                                   const Tensor& s) = 0;

  // Pooling, channels-last, ConvShape with o = c. index (i32) is h * W + w of the first maximum; pads never win. Gather
  // and scatter take the positions that max_pool of the same shape gave.
  virtual void max_pool(const ConvShape& shape, const Tensor& x, const Tensor& y, const Tensor& index) = 0;
  virtual void pool_gather(const ConvShape& shape, const Tensor& x, const Tensor& index, const Tensor& y) = 0;
  virtual void pool_scatter(const ConvShape& shape, const Tensor& y_bar, const Tensor& index, const Tensor& x_bar) = 0;
  virtual void average_pool(const ConvShape& shape, bool count_pads, const Tensor& x, const Tensor& y) = 0;
  virtual void average_pool_gradient(const ConvShape& shape, bool count_pads, const Tensor& y_bar,
                                     const Tensor& x_bar) = 0;

  // Batch normalisation in training mode. x, y dense channels-last or [N, C]; rows = elements / C.
  // mean [C], rstd [C] of the batch (biased variance + epsilon); y = (x - mean) rstd.
  virtual void batch_norm_statistics(const Tensor& x, double epsilon, const Tensor& mean, const Tensor& rstd) = 0;

  // Channel statistics by class (Wang 2022): for each class k the sum over the rows n with labels[n, k] != 0 of the
  // mean over h, w of max(x[n, c, h, w], 0). x dense channels-last, labels [N, K] dense of x's type. The means are
  // summed in float64 pairs; sums [3, K, C] of x's type, whose three parts add up to the sum. In float32 a mean is
  // rounded to float32 and to a multiple of 2^-56, which makes every sum below 2^16 exact: the order of the rows
  // changes nothing.
  virtual void channel_statistics(const Tensor& x, const Tensor& labels, const Tensor& sums) = 0;

  // Parameter-space vectors: dense f32 or f64; sums accumulate in float64 in a fixed order.
  virtual double dot(const Tensor& x, const Tensor& y) = 0;               // f32 and f64 may mix
  virtual void axpy(double alpha, const Tensor& x, const Tensor& y) = 0;  // y += alpha x, types may mix
  virtual void scale(double alpha, const Tensor& y) = 0;                  // y *= alpha
  virtual void sgd_step(const SgdStep& step, const Tensor& gradient, const Tensor& velocity, const Tensor& w) = 0;

  // Rows of a dataset into a batch y [N, C, H, W] or [N, D] of any strides (f32 or f64). store: row-major rows.
  virtual void gather_rows(const GatherSpec& spec, std::span<const GatherRow> rows, const void* store, bool store_is_u8,
                           const Tensor& y) = 0;

  // Waits for everything that was asked of the device; throws what went wrong there meanwhile.
  virtual void synchronize() = 0;

  // Of the float32 products that follow; float64 is float64 always. For devices without TF32 there is nothing to do.
  virtual void use_precision(Precision) {}
};

// The backend of a device name ("cpu", "cuda", "cuda:1"); throws ERR_DEVICE with cause and cure. One instance a device
// and process.
std::shared_ptr<Backend> open_backend(const std::string& device);
std::shared_ptr<Backend> open_cpu();
// The one name of a device that has several: "cuda" is "cuda:0".
std::string device_name(const std::string& device);

}  // namespace palimpsest
