// The CPU's row of backends.
#pragma once

#include "backend/backend.h"

namespace palimpsest::cpu {

class CpuBackend final : public Backend {
 public:
  CpuBackend();

  std::string name() const override;
  std::string description() const override;

  void* allocate(size_t bytes) override;
  void release(void* data) noexcept override;
  void copy_in(void* device, const void* host, size_t bytes) override;
  void copy_out(void* host, const void* device, size_t bytes) override;

  MemoryUse memory_use() const override;
  void reset_peak() override;
  void limit_memory(size_t bytes) override;
  void watch_working_memory() override;
  std::vector<size_t> working_memory() const override;
  DeviceSettings settings() const override;
  std::vector<std::string> instruction_sets() const override;
  void configure(const DeviceSettings& wanted) override;

  void fill(const Tensor& y, double value) override;
  void copy(const Tensor& x, const Tensor& y) override;
  void add_into(const Tensor& x, const Tensor& y) override;
  void elementwise(const ElementwiseProgram& program, std::span<const Tensor> inputs,
                   std::span<const Tensor> outputs) override;
  void reduce_sum(const Tensor& x, const Tensor& y, double alpha) override;
  void reduce_max(const Tensor& x, int axis, const Tensor& y, const Tensor& index) override;
  void take_along_axis(const Tensor& x, const Tensor& index, int axis, const Tensor& y) override;
  void put_along_axis(const Tensor& y_bar, const Tensor& index, int axis, const Tensor& x_bar) override;
  void gather(const Tensor& x, std::span<const int64_t> indices, int axis, const Tensor& y) override;
  void scatter_add(const Tensor& y_bar, std::span<const int64_t> indices, int axis, const Tensor& x_bar) override;
  void softmax(const Tensor& x, int axis, const Tensor& y) override;
  void log_softmax(const Tensor& x, int axis, const Tensor& y) override;

  void gemm(const GemmShape& shape, const Tensor& a, const Tensor& b, const Tensor& c) override;
  void gemm_epilogue(const GemmShape& shape, const Tensor& a, const Tensor& b, const Tensor& c,
                     const Epilogue& epilogue) override;
  void conv(const ConvShape& shape, const Tensor& x, const Tensor& w, const Tensor& y) override;
  void conv_epilogue(const ConvShape& shape, const Tensor& x, const Tensor& w, const Tensor& y,
                     const Epilogue& epilogue) override;
  void conv_input_gradient(const ConvShape& shape, const Tensor& w, const Tensor& y_bar, const Tensor& x_bar) override;
  void conv_weight_gradient(const ConvShape& shape, const Tensor& x, const Tensor& y_bar, const Tensor& w_bar) override;
  void conv_grad_squares(const ConvShape& shape, const Tensor& x, const Tensor& y_bar, const Tensor& s) override;
  void linear_grad_squares(int64_t n, int64_t t, int64_t i, int64_t o, const Tensor& x, const Tensor& y_bar,
                           const Tensor& s) override;

  void max_pool(const ConvShape& shape, const Tensor& x, const Tensor& y, const Tensor& index) override;
  void pool_gather(const ConvShape& shape, const Tensor& x, const Tensor& index, const Tensor& y) override;
  void pool_scatter(const ConvShape& shape, const Tensor& y_bar, const Tensor& index, const Tensor& x_bar) override;
  void average_pool(const ConvShape& shape, bool count_pads, const Tensor& x, const Tensor& y) override;
  void average_pool_gradient(const ConvShape& shape, bool count_pads, const Tensor& y_bar,
                             const Tensor& x_bar) override;
  void batch_norm_statistics(const Tensor& x, double epsilon, const Tensor& mean, const Tensor& rstd) override;
  void channel_statistics(const Tensor& x, const Tensor& labels, const Tensor& sums) override;

  double dot(const Tensor& x, const Tensor& y) override;
  void axpy(double alpha, const Tensor& x, const Tensor& y) override;
  void scale(double alpha, const Tensor& y) override;
  void sgd_step(const SgdStep& step, const Tensor& gradient, const Tensor& velocity, const Tensor& w) override;
  void gather_rows(const GatherSpec& spec, std::span<const GatherRow> rows, const void* store, bool store_is_u8,
                   const Tensor& y) override;
  void synchronize() override;
};

}  // namespace palimpsest::cpu
