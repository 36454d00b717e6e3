// The kernel table of the CPU: checks types and shapes, then calls the kernel of the type.
#include "cpu/cpu_backend.h"

#include <cstring>

#include "backend/checks.h"
#include "cpu/along_axis.h"
#include "cpu/amx.h"
#include "cpu/channel_statistics.h"
#include "cpu/conv.h"
#include "cpu/elementwise.h"
#include "cpu/gather_rows.h"
#include "cpu/gemm.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/moving.h"
#include "cpu/onednn.h"
#include "cpu/pool.h"
#include "cpu/reduce.h"
#include "cpu/settings.h"
#include "cpu/statistics.h"
#include "cpu/threads.h"
#include "cpu/types.h"
#include "cpu/vectors.h"

namespace palimpsest::cpu {
namespace {

void expect_same_type(const char* kernel, const Tensor& a, const Tensor& b, const Tensor& c) {
  expect_type(kernel, a.dtype, b);
  expect_type(kernel, a.dtype, c);
}

// Throws ERR_SHAPE for a convolution or pooling that no tensors can have.
void check_shape(const ConvShape& s) {
  const int64_t sizes[] = {s.n, s.c, s.h, s.w, s.o, s.oh, s.ow};
  const int64_t positive[] = {s.kh, s.kw, s.stride_h, s.stride_w, s.dilation_h, s.dilation_w, s.groups};
  bool valid = s.pad_top >= 0 && s.pad_left >= 0;
  for (const int64_t size : sizes) valid &= size >= 0;
  for (const int64_t size : positive) valid &= size >= 1;
  if (valid && s.c % s.groups == 0 && s.o % s.groups == 0) return;
  throw Error(ErrorCode::shape,
              "expected a window of positive sizes, strides and dilations and channels in whole "
              "groups, got " +
                  to_string({s.n, s.c, s.h, s.w}) + " to " + to_string({s.n, s.o, s.oh, s.ow}) + " by " +
                  to_string({s.kh, s.kw}) + " in " + std::to_string(s.groups) + " groups");
}

void expect_count(const char* what, int64_t expected, const Tensor& tensor) {
  if (element_count(tensor.dims) == expected) return;
  throw Error(ErrorCode::shape,
              "expected " + std::to_string(expected) + " elements of " + what + ", got " + to_string(tensor.dims));
}

void check_conv(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y) {
  check_shape(s);
  expect_same_type("a convolution", x, w, y);
  expect_count("x", s.n * s.h * s.w * s.c, x);
  expect_count("w", s.o * (s.c / s.groups) * s.kh * s.kw, w);
  expect_count("y", s.n * s.oh * s.ow * s.o, y);
}

void check_pool(const ConvShape& s, const Tensor& x, const Tensor& y) {
  check_shape(s);
  if (s.o != s.c)
    throw Error(ErrorCode::shape,
                "expected pooling to keep " + std::to_string(s.c) + " channels, got " + std::to_string(s.o));
  expect_type("pooling", x.dtype, y);
  expect_count("x", s.n * s.h * s.w * s.c, x);
  expect_count("y", s.n * s.oh * s.ow * s.c, y);
}

void check_pool_index(const ConvShape& s, const Tensor& index) {
  expect_type("the positions of pooling", DType::i32, index);
  expect_count("positions", s.n * s.oh * s.ow * s.c, index);
}

}  // namespace

CpuBackend::CpuBackend() { onednn_follow(current_isa()); }

std::string CpuBackend::name() const { return "cpu"; }

std::string CpuBackend::description() const {
  std::string text = std::string("instruction set ") + isa_name(current_isa()) + ", " + std::to_string(thread_count()) +
                     (thread_count() == 1 ? " thread" : " threads");
  return text + ", " + (onednn_enabled() ? onednn_version() : "portable kernels");
}

void* CpuBackend::allocate(size_t bytes) { return allocate_aligned(bytes); }
void CpuBackend::release(void* data) noexcept { release_aligned(data); }
void CpuBackend::copy_in(void* device, const void* host, size_t bytes) {
  if (bytes > 0) std::memcpy(device, host, bytes);
}
void CpuBackend::copy_out(void* host, const void* device, size_t bytes) {
  if (bytes > 0) std::memcpy(host, device, bytes);
}

MemoryUse CpuBackend::memory_use() const { return cpu::memory_use(); }
void CpuBackend::reset_peak() { cpu::reset_peak(); }
void CpuBackend::limit_memory(size_t bytes) { cpu::limit_memory(bytes); }
void CpuBackend::watch_working_memory() { watch_workspaces(); }
std::vector<size_t> CpuBackend::working_memory() const { return watched_workspaces(); }
DeviceSettings CpuBackend::settings() const { return cpu::settings(); }
std::vector<std::string> CpuBackend::instruction_sets() const { return cpu::instruction_sets(); }
void CpuBackend::configure(const DeviceSettings& wanted) { cpu::configure(wanted); }

void CpuBackend::fill(const Tensor& y, double value) { cpu::fill(y, value); }
void CpuBackend::copy(const Tensor& x, const Tensor& y) { cpu::copy(x, y); }
void CpuBackend::add_into(const Tensor& x, const Tensor& y) { cpu::add_into(x, y); }
void CpuBackend::elementwise(const ElementwiseProgram& program, std::span<const Tensor> inputs,
                             std::span<const Tensor> outputs) {
  cpu::elementwise(program, inputs, outputs);
}
void CpuBackend::reduce_sum(const Tensor& x, const Tensor& y, double alpha) { cpu::reduce_sum(x, y, alpha); }
void CpuBackend::reduce_max(const Tensor& x, int axis, const Tensor& y, const Tensor& index) {
  cpu::reduce_max(x, axis, y, index);
}
void CpuBackend::take_along_axis(const Tensor& x, const Tensor& index, int axis, const Tensor& y) {
  cpu::take_along_axis(x, index, axis, y);
}
void CpuBackend::put_along_axis(const Tensor& y_bar, const Tensor& index, int axis, const Tensor& x_bar) {
  cpu::put_along_axis(y_bar, index, axis, x_bar);
}
void CpuBackend::gather(const Tensor& x, std::span<const int64_t> indices, int axis, const Tensor& y) {
  cpu::gather(x, indices, axis, y);
}
void CpuBackend::scatter_add(const Tensor& y_bar, std::span<const int64_t> indices, int axis, const Tensor& x_bar) {
  cpu::scatter_add(y_bar, indices, axis, x_bar);
}
void CpuBackend::softmax(const Tensor& x, int axis, const Tensor& y) { cpu::softmax(x, axis, y, false); }
void CpuBackend::log_softmax(const Tensor& x, int axis, const Tensor& y) { cpu::softmax(x, axis, y, true); }

void CpuBackend::gemm(const GemmShape& s, const Tensor& a, const Tensor& b, const Tensor& c) {
  expect_same_type("a matrix product", a, b, c);
  const bool fits = s.batch >= 0 && s.m >= 0 && s.n >= 0 && s.k >= 0 && s.ldc >= s.n &&
                    s.lda >= (s.trans_a ? s.m : s.k) && s.ldb >= (s.trans_b ? s.k : s.n);
  if (!fits) {
    throw Error(ErrorCode::shape, "expected leading dimensions of whole rows for a matrix product of " +
                                      to_string({s.m, s.k, s.n}) + ", got " + to_string({s.lda, s.ldb, s.ldc}));
  }
  with_float("a matrix product", a.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, float>) {
      if (amx_gemm(s, a.as<const T>(), b.as<const T>(), c.as<T>())) return;
      if (onednn_gemm(s, a.as<const T>(), b.as<const T>(), c.as<T>())) return;
    }
    cpu::gemm<T>(s, a.as<const T>(), b.as<const T>(), c.as<T>());
  });
}

// oneDNN's kernels where they can do all of it: AMX's and ours leave the epilogue to a pass of its own.
void CpuBackend::gemm_epilogue(const GemmShape& s, const Tensor& a, const Tensor& b, const Tensor& c,
                               const Epilogue& epilogue) {
  if (c.dtype == DType::f32 && current_isa() != Isa::amx) {
    expect_same_type("a matrix product", a, b, c);
    const auto after = post_ops_of(epilogue, static_cast<int>(c.dims.size()) - 1);
    if (after && onednn_gemm(s, a.as<const float>(), b.as<const float>(), c.as<float>(), *after)) return;
  }
  Backend::gemm_epilogue(s, a, b, c, epilogue);
}

void CpuBackend::conv(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y) {
  check_conv(s, x, w, y);
  with_float("conv", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, float>) {
      if (amx_conv(s, x.as<const T>(), w.as<const T>(), y.as<T>())) return;
      if (onednn_conv(s, x.as<const T>(), w.as<const T>(), y.as<T>())) return;
    }
    cpu::conv<T>(s, x.as<const T>(), w.as<const T>(), y.as<T>());
  });
}

void CpuBackend::conv_epilogue(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y,
                               const Epilogue& epilogue) {
  if (y.dtype == DType::f32 && current_isa() != Isa::amx) {
    check_conv(s, x, w, y);
    const auto after = post_ops_of(epilogue, 1);
    if (after && onednn_conv(s, x.as<const float>(), w.as<const float>(), y.as<float>(), *after)) return;
  }
  Backend::conv_epilogue(s, x, w, y, epilogue);
}

void CpuBackend::conv_input_gradient(const ConvShape& s, const Tensor& w, const Tensor& y_bar, const Tensor& x_bar) {
  check_conv(s, x_bar, w, y_bar);
  with_float("conv_input_gradient", w.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, float>) {
      if (amx_conv_input_gradient(s, w.as<const T>(), y_bar.as<const T>(), x_bar.as<T>())) return;
      if (onednn_conv_input_gradient(s, w.as<const T>(), y_bar.as<const T>(), x_bar.as<T>())) return;
    }
    cpu::conv_input_gradient<T>(s, w.as<const T>(), y_bar.as<const T>(), x_bar.as<T>());
  });
}

void CpuBackend::conv_weight_gradient(const ConvShape& s, const Tensor& x, const Tensor& y_bar, const Tensor& w_bar) {
  check_conv(s, x, w_bar, y_bar);
  with_float("conv_weight_gradient", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, float>) {
      if (amx_conv_weight_gradient(s, x.as<const T>(), y_bar.as<const T>(), w_bar.as<T>())) return;
      if (onednn_conv_weight_gradient(s, x.as<const T>(), y_bar.as<const T>(), w_bar.as<T>())) return;
    }
    cpu::conv_weight_gradient<T>(s, x.as<const T>(), y_bar.as<const T>(), w_bar.as<T>());
  });
}

void CpuBackend::conv_grad_squares(const ConvShape& shape, const Tensor& x, const Tensor& y_bar, const Tensor& s) {
  check_conv(shape, x, s, y_bar);
  with_float("conv_grad_squares", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, float>) {
      if (amx_conv_grad_squares(shape, x.as<const T>(), y_bar.as<const T>(), s.as<T>())) return;
    }
    cpu::conv_grad_squares<T>(shape, x.as<const T>(), y_bar.as<const T>(), s.as<T>());
  });
}

void CpuBackend::linear_grad_squares(int64_t n, int64_t t, int64_t i, int64_t o, const Tensor& x, const Tensor& y_bar,
                                     const Tensor& s) {
  expect_same_type("linear_grad_squares", x, y_bar, s);
  expect_count("x", n * t * i, x);
  expect_count("y_bar", n * t * o, y_bar);
  expect_count("s", i * o, s);
  with_float("linear_grad_squares", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, float>) {
      if (t > 1 && amx_linear_grad_squares(n, t, i, o, x.as<const T>(), y_bar.as<const T>(), s.as<T>())) return;
    }
    cpu::linear_grad_squares<T>(n, t, i, o, x.as<const T>(), y_bar.as<const T>(), s.as<T>());
  });
}

void CpuBackend::max_pool(const ConvShape& s, const Tensor& x, const Tensor& y, const Tensor& index) {
  check_pool(s, x, y);
  check_pool_index(s, index);
  with_float("max_pool", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu::max_pool<T>(s, x.as<const T>(), y.as<T>(), index.as<int32_t>());
  });
}

void CpuBackend::pool_gather(const ConvShape& s, const Tensor& x, const Tensor& index, const Tensor& y) {
  check_pool(s, x, y);
  check_pool_index(s, index);
  with_float("pool_gather", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu::pool_gather<T>(s, x.as<const T>(), index.as<const int32_t>(), y.as<T>());
  });
}

void CpuBackend::pool_scatter(const ConvShape& s, const Tensor& y_bar, const Tensor& index, const Tensor& x_bar) {
  check_pool(s, x_bar, y_bar);
  check_pool_index(s, index);
  with_float("pool_scatter", y_bar.dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu::pool_scatter<T>(s, y_bar.as<const T>(), index.as<const int32_t>(), x_bar.as<T>());
  });
}

void CpuBackend::average_pool(const ConvShape& s, bool count_pads, const Tensor& x, const Tensor& y) {
  check_pool(s, x, y);
  with_float("average_pool", x.dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu::average_pool<T>(s, count_pads, x.as<const T>(), y.as<T>());
  });
}

void CpuBackend::average_pool_gradient(const ConvShape& s, bool count_pads, const Tensor& y_bar, const Tensor& x_bar) {
  check_pool(s, x_bar, y_bar);
  with_float("average_pool_gradient", y_bar.dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu::average_pool_gradient<T>(s, count_pads, y_bar.as<const T>(), x_bar.as<T>());
  });
}

void CpuBackend::batch_norm_statistics(const Tensor& x, double epsilon, const Tensor& mean, const Tensor& rstd) {
  cpu::batch_norm_statistics(x, epsilon, mean, rstd);
}

void CpuBackend::channel_statistics(const Tensor& x, const Tensor& labels, const Tensor& sums) {
  checks::check_channel_statistics(x, labels, sums);
  cpu::channel_statistics(x, labels, sums);
}

double CpuBackend::dot(const Tensor& x, const Tensor& y) { return cpu::dot(x, y); }
void CpuBackend::axpy(double alpha, const Tensor& x, const Tensor& y) { cpu::axpy(alpha, x, y); }
void CpuBackend::scale(double alpha, const Tensor& y) { cpu::scale(alpha, y); }
void CpuBackend::sgd_step(const SgdStep& step, const Tensor& gradient, const Tensor& velocity, const Tensor& w) {
  cpu::sgd_step(step, gradient, velocity, w);
}
void CpuBackend::gather_rows(const GatherSpec& spec, std::span<const GatherRow> rows, const void* store,
                             bool store_is_u8, const Tensor& y) {
  cpu::gather_rows(spec, rows, store, store_is_u8, y);
}
void CpuBackend::synchronize() {}

}  // namespace palimpsest::cpu
