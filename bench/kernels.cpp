// Speed of the CPU's kernels: GFLOP/s of products, convolutions and per-example squares, GB/s of passes over memory.
// palimpsest_bench_kernels [--one] [TEXT]: rows whose name holds TEXT; --one takes one thread and counts processor
// time, for a machine that others use too. Every rate is the median of the runs, its spread behind.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "cpu/isa.h"
#include "cpu/onednn.h"
#include "cpu/threads.h"

using namespace palimpsest;

namespace {

std::string only;
bool processor_time = false;

double now() {
  if (processor_time) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double seconds_of(const std::function<void()>& run) {
  const double start = now();
  run();
  return now() - start;
}

// `amount` per run in units of 1e9: FLOPs or bytes.
void measure(const std::string& name, double amount, const char* unit, const std::function<void()>& run) {
  if (name.find(only) == std::string::npos) return;
  run();
  std::vector<double> times;
  double spent = 0;
  while (times.size() < 5 || (spent < 0.25 && times.size() < 200)) {
    times.push_back(seconds_of(run));
    spent += times.back();
  }
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  std::printf("%-62s %9.1f %-8s %9.3f ms  [%.1f, %.1f]\n", name.c_str(), amount / median / 1e9, unit, median * 1e3,
              amount / times.back() / 1e9, amount / times.front() / 1e9);
}

class Memory {
 public:
  Memory(DType dtype, Dims dims, Layout layout = Layout::row_major) : backend_(open_backend("cpu")) {
    const int64_t count = element_count(dims);
    tensor_ = dense_tensor(backend_->allocate(static_cast<size_t>(count) * size_of(dtype)), dtype, dims, layout);
    for (int64_t i = 0; i < count; ++i) {
      const double value = static_cast<double>(i * 7919 % 1009) / 1009 - 0.5;
      if (dtype == DType::f32) tensor_.as<float>()[i] = static_cast<float>(value);
      if (dtype == DType::f64) tensor_.as<double>()[i] = value;
      if (dtype == DType::i32) tensor_.as<int32_t>()[i] = 0;
    }
  }
  Memory(const Memory&) = delete;
  ~Memory() { backend_->release(tensor_.data); }
  operator const Tensor&() const { return tensor_; }

 private:
  std::shared_ptr<Backend> backend_;
  Tensor tensor_;
};

// Row n of labels [N, K], which hold anything.
void one_hot(const Tensor& labels, int64_t n, int64_t label) {
  for (int64_t k = 0; k < labels.dims[1]; ++k) {
    const int64_t at = n * labels.dims[1] + k;
    if (labels.dtype == DType::f32) labels.as<float>()[at] = k == label ? 1.0f : 0.0f;
    if (labels.dtype == DType::f64) labels.as<double>()[at] = k == label ? 1.0 : 0.0;
  }
}

struct Way {
  const char* name;
  DType dtype;
  bool onednn;
};
const Way ways[] = {{"f32 oneDNN", DType::f32, true}, {"f32 portable", DType::f32, false}, {"f64", DType::f64, false}};

template <class Body>
void each_way(bool libraries, Body body) {
  const bool before = cpu::onednn_enabled();
  for (const Way& way : ways) {
    if (way.onednn && (!libraries || cpu::onednn_version().empty())) continue;
    cpu::set_onednn_enabled(way.onednn);
    body(way);
  }
  cpu::set_onednn_enabled(before);
}

void bench_gemm(Backend& backend, int64_t m, int64_t k, int64_t n, bool ta, bool tb, int64_t batch = 1) {
  each_way(true, [&](const Way& way) {
    const Memory a(way.dtype, {batch, m, k}), b(way.dtype, {batch, k, n}), c(way.dtype, {batch, m, n});
    GemmShape s;
    s.batch = batch, s.m = m, s.k = k, s.n = n, s.trans_a = ta, s.trans_b = tb;
    s.lda = ta ? m : k, s.ldb = tb ? k : n, s.ldc = n;
    s.stride_a = m * k, s.stride_b = k * n, s.stride_c = m * n;
    // 2 M K N of each matrix
    measure("gemm " + to_string({batch, m, k, n}) + (ta ? " ta" : "") + (tb ? " tb" : "") + " " + way.name,
            2.0 * static_cast<double>(batch * m) * static_cast<double>(k * n), "GFLOP/s",
            [&] { backend.gemm(s, a, b, c); });
  });
}

void bench_conv(Backend& backend, int64_t n, int64_t c, int64_t hw, int64_t o, int64_t kernel, int64_t stride,
                int64_t groups = 1) {
  ConvShape s;
  s.n = n, s.c = c, s.h = s.w = hw, s.o = o, s.kh = s.kw = kernel, s.stride_h = s.stride_w = stride;
  s.pad_top = s.pad_left = kernel / 2, s.groups = groups;
  s.oh = s.ow = (hw + 2 * (kernel / 2) - kernel) / stride + 1;
  const std::string shape = to_string({n, c, hw, hw}) + " to " + std::to_string(o) + " by " + std::to_string(kernel) +
                            " / " + std::to_string(stride) + (groups > 1 ? " groups " + std::to_string(groups) : "");
  // 2 N OH OW O (C / groups) KH KW
  const double flops =
      2.0 * static_cast<double>(n * s.oh * s.ow) * static_cast<double>(o * (c / groups) * kernel * kernel);
  each_way(true, [&](const Way& way) {
    const Memory x(way.dtype, {n, c, hw, hw}), w(way.dtype, {o, c / groups, kernel, kernel}),
        y(way.dtype, {n, o, s.oh, s.ow});
    measure("conv " + shape + " " + way.name, flops, "GFLOP/s", [&] { backend.conv(s, x, w, y); });
    measure("conv_input_gradient " + shape + " " + way.name, flops, "GFLOP/s",
            [&] { backend.conv_input_gradient(s, w, y, x); });
    measure("conv_weight_gradient " + shape + " " + way.name, flops, "GFLOP/s",
            [&] { backend.conv_weight_gradient(s, x, y, w); });
    if (!way.onednn) {
      measure("conv_grad_squares " + shape + " " + way.name, flops, "GFLOP/s",
              [&] { backend.conv_grad_squares(s, x, y, w); });
    }
  });
}

void bench_linear_squares(Backend& backend, int64_t n, int64_t t, int64_t i, int64_t o) {
  each_way(false, [&](const Way& way) {
    const Memory x(way.dtype, {n, t, i}), y(way.dtype, {n, t, o}), s(way.dtype, {i, o});
    measure("linear_grad_squares " + to_string({n, t, i, o}) + " " + way.name,
            2.0 * static_cast<double>(n * t) * static_cast<double>(i * o), "GFLOP/s",
            [&] { backend.linear_grad_squares(n, t, i, o, x, y, s); });
  });
}

Instruction step(Code code, int32_t a, int32_t b, int32_t c = -1) { return {code, Unary::identity, 0, a, b, c, 0, 0}; }
Instruction function(Unary unary, int order, int32_t a, int32_t b = -1) {
  return {Code::unary, unary, static_cast<uint8_t>(order), a, b, -1, 0, 0};
}

void bench_elementwise(Backend& backend) {
  const Dims dims{32, 64, 56, 56};
  const double count = static_cast<double>(element_count(dims));
  each_way(false, [&](const Way& way) {
    const double size = static_cast<double>(size_of(way.dtype));
    const Layout last = Layout::channels_last;
    const Memory x(way.dtype, dims, last), y(way.dtype, dims, last), z(way.dtype, dims, last),
        channel(way.dtype, {64, 1, 1});
    const Tensor& c = channel;
    const Tensor scale{c.data, c.dtype, dims, broadcast_strides(c.dims, c.strides, dims)};
    const Tensor one[] = {x}, two[] = {x, z}, affine[] = {x, scale, scale}, to[] = {y}, over[] = {z};
    const auto row = [&](const std::string& name, double passes, const ElementwiseProgram& program,
                         std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
      // passes: tensors read and written
      measure("elementwise " + name + " " + way.name, passes * count * size, "GB/s",
              [&] { backend.elementwise(program, inputs, outputs); });
    };
    row("relu", 2, {1, {function(Unary::relu, 0, 0)}, {1}}, one, to);
    row("add in place", 3, {2, {step(Code::add, 0, 1)}, {2}}, two, over);
    row("bias, scale, relu", 2, {3, {step(Code::mul_add, 0, 1, 2), function(Unary::relu, 0, 3)}, {4}}, affine, to);
    for (const auto& [name, unary] : {std::pair{"sigmoid", Unary::sigmoid},
                                      {"tanh", Unary::tanh},
                                      {"gelu", Unary::gelu},
                                      {"gelu_tanh", Unary::gelu_tanh},
                                      {"exp", Unary::exp},
                                      {"log", Unary::log},
                                      {"softplus", Unary::softplus},
                                      {"mish", Unary::mish}}) {
      row(name, 2, {1, {function(unary, 0, 0)}, {1}}, one, to);
    }
    row("gelu'", 3, {2, {function(Unary::gelu, 1, 0, 1)}, {2}}, two, to);
  });
}

void bench_passes(Backend& backend) {
  const Dims dims{32, 64, 56, 56};
  const double count = static_cast<double>(element_count(dims));
  each_way(false, [&](const Way& way) {
    const double bytes = count * static_cast<double>(size_of(way.dtype));
    const Memory x(way.dtype, dims), y(way.dtype, dims, Layout::channels_last),
        z(way.dtype, dims, Layout::channels_last);
    const Memory sums(way.dtype, {1, 64, 1, 1}), mean(way.dtype, {64}), rstd(way.dtype, {64});
    const std::string name = way.name;
    measure("copy to channels-last " + name, 2 * bytes, "GB/s", [&] { backend.copy(x, y); });
    measure("copy to row-major " + name, 2 * bytes, "GB/s", [&] { backend.copy(y, x); });
    measure("copy as it lies " + name, 2 * bytes, "GB/s", [&] { backend.copy(y, z); });
    measure("add_into " + name, 3 * bytes, "GB/s", [&] { backend.add_into(y, z); });
    measure("fill " + name, bytes, "GB/s", [&] { backend.fill(z, 1); });
    measure("reduce_sum to channels " + name, bytes, "GB/s", [&] { backend.reduce_sum(y, sums, 1); });
    measure("batch_norm_statistics " + name, 2 * bytes, "GB/s",
            [&] { backend.batch_norm_statistics(y, 1e-5, mean, rstd); });
    const Memory labels(way.dtype, {32, 10}), by_class(way.dtype, {3, 10, 64});
    for (int64_t n = 0; n < 32; ++n) one_hot(labels, n, n % 10);
    measure("channel_statistics " + name, bytes, "GB/s", [&] { backend.channel_statistics(y, labels, by_class); });
    measure("dot " + name, 2 * bytes, "GB/s", [&] { backend.dot(y, z); });
    measure("axpy " + name, 3 * bytes, "GB/s", [&] { backend.axpy(1e-9, y, z); });
    const Memory logits(way.dtype, {4096, 1000}), soft(way.dtype, {4096, 1000});
    const double soft_bytes = 2 * 4096.0 * 1000 * static_cast<double>(size_of(way.dtype));
    measure("softmax [4096, 1000] " + name, soft_bytes, "GB/s", [&] { backend.softmax(logits, 1, soft); });
    ConvShape pool;
    pool.n = 32, pool.c = pool.o = 64, pool.h = pool.w = 56, pool.oh = pool.ow = 28, pool.kh = pool.kw = 3;
    pool.stride_h = pool.stride_w = 2, pool.pad_top = pool.pad_left = 1;
    const Memory pooled(way.dtype, {32, 64, 28, 28}, Layout::channels_last),
        index(DType::i32, {32, 64, 28, 28}, Layout::channels_last);
    measure("max_pool " + name, 1.25 * bytes, "GB/s", [&] { backend.max_pool(pool, y, pooled, index); });
    measure("pool_scatter " + name, 1.25 * bytes, "GB/s", [&] { backend.pool_scatter(pool, pooled, index, y); });
    measure("average_pool " + name, 1.25 * bytes, "GB/s", [&] { backend.average_pool(pool, true, y, pooled); });
  });
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--one") == 0) {
      processor_time = true;
      cpu::set_threads(1);
    } else {
      only = argv[i];
    }
  }
  const std::shared_ptr<Backend> backend = open_backend("cpu");
  std::printf("%s\n", backend->description().c_str());
  bench_gemm(*backend, 1024, 1024, 1024, false, false);
  bench_gemm(*backend, 256, 784, 1024, false, true);
  bench_gemm(*backend, 1024, 256, 784, true, false);
  bench_gemm(*backend, 256, 1024, 784, false, false);
  bench_gemm(*backend, 64, 64, 64, false, true, 48);
  bench_gemm(*backend, 32, 512, 10, false, true);
  bench_conv(*backend, 32, 64, 32, 64, 3, 1);
  bench_conv(*backend, 32, 128, 16, 128, 3, 1);
  bench_conv(*backend, 32, 256, 8, 256, 3, 1);
  bench_conv(*backend, 32, 512, 4, 512, 3, 1);
  bench_conv(*backend, 32, 64, 32, 128, 3, 2);
  bench_conv(*backend, 32, 64, 32, 128, 1, 2);
  bench_conv(*backend, 128, 3, 32, 64, 3, 1);
  bench_conv(*backend, 128, 1, 28, 32, 5, 1);
  bench_conv(*backend, 64, 16, 32, 16, 3, 1);
  bench_conv(*backend, 32, 128, 28, 128, 3, 1, 128);
  bench_linear_squares(*backend, 256, 1, 1024, 1024);
  bench_linear_squares(*backend, 32, 64, 384, 384);
  bench_elementwise(*backend);
  bench_passes(*backend);
  return 0;
}
