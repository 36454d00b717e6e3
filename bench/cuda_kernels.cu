// Speed of the CUDA kernels on one GPU, timed with device events, without Node: products, convolutions and squares
// beside cuBLASLt and cuDNN where they were found, passes over memory beside the measured copy bandwidth.
// palimpsest_bench_cuda [--device N] [--json FILE] [TEXT]: rows whose name holds TEXT. FILE takes a JSON object a line,
// which bench/peers/cuda_kernels.py runs in PyTorch.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <string>

#include "bench/cuda_rows.h"
#include "cuda/along_axis.h"
#include "cuda/conv.h"
#include "cuda/elementwise.h"
#include "cuda/gemm.h"
#include "cuda/moving.h"
#include "cuda/pool.h"
#include "cuda/reduce.h"
#include "cuda/statistics.h"
#include "cuda/vectors.h"

using namespace palimpsest;
using namespace palimpsest::bench;

namespace {

bool found(const char* library) {
  for (const cuda::LibraryState& state : cuda::libraries()) {
    if (state.name == library) return state.reason.empty();
  }
  return false;
}

void bench_gemm(const Bench& bench, DType dtype, int64_t m, int64_t k, int64_t n, bool ta, bool tb, int64_t batch = 1) {
  const Values a(bench.device, dtype, {batch, m, k}), b(bench.device, dtype, {batch, k, n}),
      c(bench.device, dtype, {batch, m, n});
  GemmShape s;
  s.batch = batch, s.m = m, s.k = k, s.n = n, s.trans_a = ta, s.trans_b = tb;
  s.lda = ta ? m : k, s.ldb = tb ? k : n, s.ldc = n;
  s.stride_a = m * k, s.stride_b = k * n, s.stride_c = m * n;
  const std::string shape = to_string({batch, m, k, n}),
                    transposed = std::string(ta ? "true" : "false") + ", \"trans_b\": " + (tb ? "true" : "false");
  bench.product("gemm " + shape + (ta ? " ta" : "") + (tb ? " tb" : ""), dtype,
                "\"kind\": \"gemm\", \"shape\": " + shape + ", \"trans_a\": " + transposed,
                2.0 * static_cast<double>(batch * m) * static_cast<double>(k * n), found("cuBLASLt"),
                [&] { cuda::gemm(bench.device, s, a, b, c); });
}

void bench_conv(const Bench& bench, DType dtype, int64_t n, int64_t c, int64_t hw, int64_t o, int64_t kernel,
                int64_t stride, int64_t groups = 1) {
  ConvShape s;
  s.n = n, s.c = c, s.h = s.w = hw, s.o = o, s.kh = s.kw = kernel, s.stride_h = s.stride_w = stride;
  s.pad_top = s.pad_left = kernel / 2, s.groups = groups;
  s.oh = s.ow = (hw + 2 * (kernel / 2) - kernel) / stride + 1;
  const Layout last = Layout::channels_last;
  const Values x(bench.device, dtype, {n, c, hw, hw}, last), w(bench.device, dtype, {o, c / groups, kernel, kernel}),
      y(bench.device, dtype, {n, o, s.oh, s.ow}, last);
  const std::string shape = to_string({n, c, hw, hw}) + " to " + std::to_string(o) + " by " + std::to_string(kernel) +
                            " / " + std::to_string(stride) + (groups > 1 ? " groups " + std::to_string(groups) : "");
  const std::string numbers = "\"shape\": " + to_string({n, c, hw, o, kernel, stride, groups});
  const double flops =
      2.0 * static_cast<double>(n * s.oh * s.ow) * static_cast<double>(o * (c / groups) * kernel * kernel);
  // Depthwise convolutions are ours; 1 x 1 ones are products.
  const bool pointwise = kernel == 1 && stride == 1 && groups == 1;
  const bool library =
      dtype == DType::f32 ? found(pointwise ? "cuBLASLt" : "cuDNN") && groups != c : pointwise && found("cuBLASLt");
  const auto row = [&](const std::string& kind, bool libraries, const std::function<void()>& run) {
    bench.product(kind + " " + shape, dtype, "\"kind\": \"" + kind + "\", " + numbers, flops, libraries, run);
  };
  row("conv", library, [&] { cuda::conv(bench.device, s, x, w, y); });
  row("conv_input_gradient", library, [&] { cuda::conv_input_gradient(bench.device, s, w, y, x); });
  row("conv_weight_gradient", library, [&] { cuda::conv_weight_gradient(bench.device, s, x, y, w); });
  row("conv_grad_squares", false, [&] { cuda::conv_grad_squares(bench.device, s, x, y, w); });
}

void bench_linear_squares(const Bench& bench, DType dtype, int64_t n, int64_t t, int64_t i, int64_t o) {
  const Values x(bench.device, dtype, {n, t, i}), y(bench.device, dtype, {n, t, o}), s(bench.device, dtype, {i, o});
  const std::string shape = to_string({n, t, i, o});
  bench.product("linear_grad_squares " + shape, dtype, "\"kind\": \"linear_grad_squares\", \"shape\": " + shape,
                2.0 * static_cast<double>(n * t) * static_cast<double>(i * o), false,
                [&] { cuda::linear_grad_squares(bench.device, n, t, i, o, x, y, s); });
}

void bench_products(const Bench& bench, DType dtype) {
  for (const int64_t size : {512, 1024, 2048, 4096, 8192}) bench_gemm(bench, dtype, size, size, size, false, false);
  bench_gemm(bench, dtype, 4096, 4096, 4096, false, true);
  bench_gemm(bench, dtype, 4096, 4096, 4096, true, false);
  bench_gemm(bench, dtype, 256, 784, 1024, false, true);
  bench_gemm(bench, dtype, 1024, 256, 784, true, false);
  bench_gemm(bench, dtype, 256, 512, 10, false, true);
  bench_gemm(bench, dtype, 64, 64, 64, false, true, 384);
  for (const int64_t n : {32, 256}) {
    bench_conv(bench, dtype, n, 3, 224, 64, 7, 2);
    bench_conv(bench, dtype, n, 64, 56, 64, 3, 1);
    bench_conv(bench, dtype, n, 128, 28, 128, 3, 1);
    bench_conv(bench, dtype, n, 256, 14, 256, 3, 1);
    bench_conv(bench, dtype, n, 512, 7, 512, 3, 1);
    bench_conv(bench, dtype, n, 64, 56, 128, 3, 2);
    bench_conv(bench, dtype, n, 64, 56, 128, 1, 2);
    bench_conv(bench, dtype, n, 256, 56, 64, 1, 1);
    bench_conv(bench, dtype, n, 64, 32, 64, 3, 1);
  }
  bench_conv(bench, dtype, 256, 128, 28, 128, 3, 1, 32);
  bench_conv(bench, dtype, 256, 128, 28, 128, 3, 1, 128);
  bench_linear_squares(bench, dtype, 1024, 1, 1024, 1024);
  bench_linear_squares(bench, dtype, 64, 197, 384, 1536);
}

Instruction step(Code code, int32_t a, int32_t b, int32_t c = -1) { return {code, Unary::identity, 0, a, b, c, 0, 0}; }
Instruction function(Unary unary, int order, int32_t a, int32_t b = -1) {
  return {Code::unary, unary, static_cast<uint8_t>(order), a, b, -1, 0, 0};
}

void bench_passes(const Bench& bench, DType dtype) {
  cuda::Device& device = bench.device;
  const Dims dims{256, 64, 56, 56};
  const Layout last = Layout::channels_last;
  const double bytes = static_cast<double>(element_count(dims)) * static_cast<double>(size_of(dtype));
  const Values x(device, dtype, dims, last), y(device, dtype, dims, last), z(device, dtype, dims, last);
  const Values rows(device, dtype, dims), channel(device, dtype, {64, 1, 1});
  const Tensor& c = channel;
  const Tensor scale{c.data, c.dtype, dims, broadcast_strides(c.dims, c.strides, dims)};
  const Tensor one[] = {x}, two[] = {x, z}, affine[] = {x, scale, scale}, to[] = {y}, over[] = {z};
  const auto chain = [&](const std::string& name, double passes, const ElementwiseProgram& program,
                         std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
    bench.pass("elementwise " + name, dtype, passes * bytes,
               [&] { cuda::elementwise(device, program, inputs, outputs); });
  };
  chain("relu", 2, {1, {function(Unary::relu, 0, 0)}, {1}}, one, to);
  chain("add in place", 3, {2, {step(Code::add, 0, 1)}, {2}}, two, over);
  chain("bias, scale, relu", 2, {3, {step(Code::mul_add, 0, 1, 2), function(Unary::relu, 0, 3)}, {4}}, affine, to);
  chain("gelu", 2, {1, {function(Unary::gelu, 0, 0)}, {1}}, one, to);
  chain("gelu'", 3, {2, {function(Unary::gelu, 1, 0, 1)}, {2}}, two, to);
  bench.pass("copy to channels-last", dtype, 2 * bytes, [&] { cuda::copy(device, rows, y); });
  bench.pass("copy to row-major", dtype, 2 * bytes, [&] { cuda::copy(device, x, rows); });
  bench.pass("copy as it lies", dtype, 2 * bytes, [&] { cuda::copy(device, x, y); });
  bench.pass("fill", dtype, bytes, [&] { cuda::fill(device, z, 1); });
  bench.pass("add_into", dtype, 3 * bytes, [&] { cuda::add_into(device, x, z); });
  const Values sums(device, dtype, {1, 64, 1, 1}), mean(device, dtype, {64}), rstd(device, dtype, {64});
  bench.pass("reduce_sum to channels", dtype, bytes, [&] { cuda::reduce_sum(device, x, sums, 1); });
  bench.pass("batch_norm_statistics", dtype, bytes, [&] { cuda::batch_norm_statistics(device, x, 1e-5, mean, rstd); });
  bench.pass("dot", dtype, 2 * bytes, [&] { cuda::dot(device, x, z); });
  bench.pass("axpy", dtype, 3 * bytes, [&] { cuda::axpy(device, 1e-9, x, z); });
  const Values logits(device, dtype, {65536, 1000}), soft(device, dtype, {65536, 1000});
  bench.pass("softmax [65536, 1000]", dtype, 2 * 65536.0 * 1000 * static_cast<double>(size_of(dtype)),
             [&] { cuda::softmax(device, logits, 1, soft, false); });
  ConvShape pool;
  pool.n = 256, pool.c = pool.o = 64, pool.h = pool.w = 56, pool.oh = pool.ow = 28, pool.kh = pool.kw = 3;
  pool.stride_h = pool.stride_w = 2, pool.pad_top = pool.pad_left = 1;
  const Values pooled(device, dtype, {256, 64, 28, 28}, last), index(device, DType::i32, {256, 64, 28, 28}, last);
  bench.pass("max_pool", dtype, 1.25 * bytes, [&] { cuda::max_pool(device, pool, x, pooled, index); });
  bench.pass("pool_scatter", dtype, 1.25 * bytes, [&] { cuda::pool_scatter(device, pool, pooled, index, y); });
  bench.pass("average_pool", dtype, 1.25 * bytes, [&] { cuda::average_pool(device, pool, true, x, pooled); });
}

int run(int argc, char** argv) {
  int ordinal = 0;
  std::string only, file;
  for (int i = 1; i < argc; ++i) {
    const bool more = i + 1 < argc;
    if (std::strcmp(argv[i], "--device") == 0 && more) ordinal = std::atoi(argv[++i]);
    else if (std::strcmp(argv[i], "--json") == 0 && more) file = argv[++i];
    else only = argv[i];
  }
  cuda::Device device(ordinal);
  device.activate();
  Bench bench{device, measure_peaks(device), only};
  if (!file.empty() && (bench.json = std::fopen(file.c_str(), "w")) == nullptr) {
    return std::fprintf(stderr, "cannot write %s\n", file.c_str()), 2;
  }
  std::printf("%s\n", describe(device).c_str());
  for (const cuda::LibraryState& state : cuda::libraries()) {
    std::printf("%s %s %s%s\n", state.name.c_str(), state.version.c_str(), state.path.c_str(), state.reason.c_str());
  }
  std::printf("peaks measured: copies %.0f GB/s, float32 %.0f GFLOP/s, float64 %.0f GFLOP/s of multiply-adds\n",
              bench.peaks.bytes / 1e9, bench.peaks.float_flops / 1e9, bench.peaks.double_flops / 1e9);
  for (const DType dtype : {DType::f32, DType::f64}) bench_passes(bench, dtype);
  for (const DType dtype : {DType::f32, DType::f64}) bench_products(bench, dtype);
  device.set_precision(Precision::tf32);
  bench_products(bench, DType::f32);
  if (bench.json != nullptr) std::fclose(bench.json);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
  }
}
