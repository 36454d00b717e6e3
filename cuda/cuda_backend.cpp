// The kernel table of CUDA: checks types and shapes, then calls the kernels of a family.
#include "cuda/cuda_backend.h"

#include "backend/checks.h"
#include "cuda/along_axis.h"
#include "cuda/channel_statistics.h"
#include "cuda/conv.h"
#include "cuda/elementwise.h"
#include "cuda/gather_rows.h"
#include "cuda/gemm.h"
#include "cuda/moving.h"
#include "cuda/pool.h"
#include "cuda/reduce.h"
#include "cuda/statistics.h"
#include "cuda/vectors.h"

namespace palimpsest::cuda {

using namespace checks;

namespace {

// Refuses integers.
void expect_float(const char* kernel, const Tensor& x) {
  with_float(kernel, x.dtype, [](auto) {});
}

}  // namespace

std::string CudaBackend::name() const { return "cuda:" + std::to_string(device_.ordinal()); }
std::string CudaBackend::description() const { return describe(device_); }

void* CudaBackend::allocate(size_t bytes) {
  device_.activate();
  return device_.memory().allocate(bytes);
}
void CudaBackend::release(void* data) noexcept { device_.memory().release(data); }
void CudaBackend::copy_in(void* device, const void* host, size_t bytes) { device_.copy_in(device, host, bytes); }
void CudaBackend::copy_out(void* host, const void* device, size_t bytes) { device_.copy_out(host, device, bytes); }

MemoryUse CudaBackend::memory_use() const { return device_.memory_use(); }
void CudaBackend::reset_peak() { device_.memory().reset_peak(); }
void CudaBackend::limit_memory(size_t bytes) { device_.memory().set_limit(bytes); }

void CudaBackend::fill(const Tensor& y, double value) { cuda::fill(device_, y, value); }
void CudaBackend::copy(const Tensor& x, const Tensor& y) { cuda::copy(device_, x, y); }
void CudaBackend::add_into(const Tensor& x, const Tensor& y) { cuda::add_into(device_, x, y); }
void CudaBackend::elementwise(const ElementwiseProgram& program, std::span<const Tensor> inputs,
                              std::span<const Tensor> outputs) {
  cuda::elementwise(device_, program, inputs, outputs);
}
void CudaBackend::reduce_sum(const Tensor& x, const Tensor& y, double alpha) { cuda::reduce_sum(device_, x, y, alpha); }
void CudaBackend::reduce_max(const Tensor& x, int axis, const Tensor& y, const Tensor& index) {
  cuda::reduce_max(device_, x, axis, y, index);
}
void CudaBackend::take_along_axis(const Tensor& x, const Tensor& index, int axis, const Tensor& y) {
  cuda::take_along_axis(device_, x, index, axis, y);
}
void CudaBackend::put_along_axis(const Tensor& y_bar, const Tensor& index, int axis, const Tensor& x_bar) {
  cuda::put_along_axis(device_, y_bar, index, axis, x_bar);
}
void CudaBackend::gather(const Tensor& x, std::span<const int64_t> indices, int axis, const Tensor& y) {
  cuda::gather(device_, x, indices, axis, y);
}
void CudaBackend::scatter_add(const Tensor& y_bar, std::span<const int64_t> indices, int axis, const Tensor& x_bar) {
  cuda::scatter_add(device_, y_bar, indices, axis, x_bar);
}
void CudaBackend::softmax(const Tensor& x, int axis, const Tensor& y) { cuda::softmax(device_, x, axis, y, false); }
void CudaBackend::log_softmax(const Tensor& x, int axis, const Tensor& y) { cuda::softmax(device_, x, axis, y, true); }

void CudaBackend::gemm(const GemmShape& s, const Tensor& a, const Tensor& b, const Tensor& c) {
  expect_same_type("a matrix product", a, b, c);
  expect_float("a matrix product", a);
  check_gemm(s);
  cuda::gemm(device_, s, a, b, c);
}

void CudaBackend::conv(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y) {
  check_conv(s, x, w, y);
  expect_float("conv", x);
  cuda::conv(device_, s, x, w, y);
}

void CudaBackend::conv_input_gradient(const ConvShape& s, const Tensor& w, const Tensor& y_bar, const Tensor& x_bar) {
  check_conv(s, x_bar, w, y_bar);
  expect_float("conv_input_gradient", w);
  cuda::conv_input_gradient(device_, s, w, y_bar, x_bar);
}

void CudaBackend::conv_weight_gradient(const ConvShape& s, const Tensor& x, const Tensor& y_bar, const Tensor& w_bar) {
  check_conv(s, x, w_bar, y_bar);
  expect_float("conv_weight_gradient", x);
  cuda::conv_weight_gradient(device_, s, x, y_bar, w_bar);
}

void CudaBackend::conv_grad_squares(const ConvShape& shape, const Tensor& x, const Tensor& y_bar, const Tensor& s) {
  check_conv(shape, x, s, y_bar);
  expect_float("conv_grad_squares", x);
  cuda::conv_grad_squares(device_, shape, x, y_bar, s);
}

void CudaBackend::linear_grad_squares(int64_t n, int64_t t, int64_t i, int64_t o, const Tensor& x, const Tensor& y_bar,
                                      const Tensor& s) {
  expect_same_type("linear_grad_squares", x, y_bar, s);
  expect_float("linear_grad_squares", x);
  expect_count("x", n * t * i, x);
  expect_count("y_bar", n * t * o, y_bar);
  expect_count("s", i * o, s);
  cuda::linear_grad_squares(device_, n, t, i, o, x, y_bar, s);
}

void CudaBackend::max_pool(const ConvShape& s, const Tensor& x, const Tensor& y, const Tensor& index) {
  check_pool(s, x, y);
  check_pool_index(s, index);
  expect_float("max_pool", x);
  cuda::max_pool(device_, s, x, y, index);
}

void CudaBackend::pool_gather(const ConvShape& s, const Tensor& x, const Tensor& index, const Tensor& y) {
  check_pool(s, x, y);
  check_pool_index(s, index);
  expect_float("pool_gather", x);
  cuda::pool_gather(device_, s, x, index, y);
}

void CudaBackend::pool_scatter(const ConvShape& s, const Tensor& y_bar, const Tensor& index, const Tensor& x_bar) {
  check_pool(s, x_bar, y_bar);
  check_pool_index(s, index);
  expect_float("pool_scatter", y_bar);
  cuda::pool_scatter(device_, s, y_bar, index, x_bar);
}

void CudaBackend::average_pool(const ConvShape& s, bool count_pads, const Tensor& x, const Tensor& y) {
  check_pool(s, x, y);
  expect_float("average_pool", x);
  cuda::average_pool(device_, s, count_pads, x, y);
}

void CudaBackend::average_pool_gradient(const ConvShape& s, bool count_pads, const Tensor& y_bar, const Tensor& x_bar) {
  check_pool(s, x_bar, y_bar);
  expect_float("average_pool_gradient", y_bar);
  cuda::average_pool_gradient(device_, s, count_pads, y_bar, x_bar);
}

void CudaBackend::batch_norm_statistics(const Tensor& x, double epsilon, const Tensor& mean, const Tensor& rstd) {
  cuda::batch_norm_statistics(device_, x, epsilon, mean, rstd);
}

void CudaBackend::channel_statistics(const Tensor& x, const Tensor& labels, const Tensor& sums) {
  check_channel_statistics(x, labels, sums);
  expect_float("channel_statistics", x);
  cuda::channel_statistics(device_, x, labels, sums);
}

double CudaBackend::dot(const Tensor& x, const Tensor& y) { return cuda::dot(device_, x, y); }
void CudaBackend::axpy(double alpha, const Tensor& x, const Tensor& y) { cuda::axpy(device_, alpha, x, y); }
void CudaBackend::scale(double alpha, const Tensor& y) { cuda::scale(device_, alpha, y); }
void CudaBackend::sgd_step(const SgdStep& step, const Tensor& gradient, const Tensor& velocity, const Tensor& w) {
  cuda::sgd_step(device_, step, gradient, velocity, w);
}
void CudaBackend::gather_rows(const GatherSpec& spec, std::span<const GatherRow> rows, const void* store,
                              bool store_is_u8, const Tensor& y) {
  cuda::gather_rows(device_, spec, rows, store, store_is_u8, y);
}
void CudaBackend::synchronize() { device_.synchronize(); }
void CudaBackend::use_precision(Precision precision) { device_.set_precision(precision); }
void CudaBackend::watch_working_memory() { device_.watch_workspaces(); }
std::vector<size_t> CudaBackend::working_memory() const { return device_.watched_workspaces(); }

}  // namespace palimpsest::cuda
