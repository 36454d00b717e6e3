// Matrix products, convolutions and per-example squares, each beside oneDNN's own primitive or a product of its size.
#include "measure.h"

namespace palimpsest::bench {

namespace {

double values_of(const Dims& dims) { return static_cast<double>(element_count(dims)); }

GemmShape gemm_shape(int64_t m, int64_t k, int64_t n, bool ta = false, bool tb = false, int64_t batch = 1) {
  GemmShape s;
  s.batch = batch, s.m = m, s.k = k, s.n = n, s.trans_a = ta, s.trans_b = tb;
  s.lda = ta ? m : k, s.ldb = tb ? k : n, s.ldc = n;
  s.stride_a = m * k, s.stride_b = k * n, s.stride_c = m * n;
  return s;
}

void bench_gemm(Report& report, Backend& backend, const GemmShape& s) {
  each_way(true, [&](const Way& way) {
    const Dims a_dims{s.batch, s.m, s.k}, b_dims{s.batch, s.k, s.n}, c_dims{s.batch, s.m, s.n};
    Row row{"gemm " + to_string({s.batch, s.m, s.k, s.n}) + (s.trans_a ? " ta" : "") + (s.trans_b ? " tb" : ""),
            way.name, "2 B M K N; B (M K + K N + M N)", "GFLOP/s"};
    row.flops = row.amount = 2.0 * values_of(a_dims) * static_cast<double>(s.n);
    row.bytes = (values_of(a_dims) + values_of(b_dims) + values_of(c_dims)) * static_cast<double>(size_of(way.dtype));
    if (!report.wants(row)) return;
    const Memory a(way.dtype, a_dims), b(way.dtype, b_dims), c(way.dtype, c_dims);
    Reference beside;
    if (way.onednn) beside = {"oneDNN's matmul", row.flops, own_gemm(s)};
    report.measure(
        row, [&] { backend.gemm(s, a, b, c); }, beside);
  });
}

ConvShape conv_shape(int64_t n, int64_t c, int64_t hw, int64_t o, int64_t kernel, int64_t stride, int64_t groups) {
  ConvShape s;
  s.n = n, s.c = c, s.h = s.w = hw, s.o = o, s.kh = s.kw = kernel, s.stride_h = s.stride_w = stride;
  s.pad_top = s.pad_left = kernel / 2, s.groups = groups;
  s.oh = s.ow = (hw + 2 * (kernel / 2) - kernel) / stride + 1;
  return s;
}

struct ConvOperands {
  const ConvShape& s;
  Memory x, w, y;
  ConvOperands(DType dtype, const ConvShape& shape)
      : s(shape),
        x(dtype, {s.n, s.c, s.h, s.w}, Layout::channels_last),
        w(dtype, {s.o, s.c / s.groups, s.kh, s.kw}),
        y(dtype, {s.n, s.o, s.oh, s.ow}, Layout::channels_last) {}
};

// A product of the size of a convolution's squares: [C / groups KH KW, N OH OW] by [N OH OW, O].
Reference gemm_of_size(Backend& backend, const ConvShape& s, DType dtype) {
  const GemmShape g = gemm_shape(s.c / s.groups * s.kh * s.kw, s.n * s.oh * s.ow, s.o, true);
  const auto a = std::make_shared<Memory>(dtype, Dims{g.m, g.k}), b = std::make_shared<Memory>(dtype, Dims{g.k, g.n}),
             c = std::make_shared<Memory>(dtype, Dims{g.m, g.n});
  const double flops = 2.0 * static_cast<double>(g.m * g.k) * static_cast<double>(g.n);
  return {"a product of its size", flops, [&backend, g, a, b, c] { backend.gemm(g, *a, *b, *c); }};
}

void bench_squares(Report& report, Backend& backend, const ConvShape& s, const std::string& shape, double flops) {
  each_way(true, [&](const Way& way) {  // the kernel is the same; the product beside it is oneDNN's or our own
    Row row{"conv_grad_squares " + shape, way.name, "2 N OH OW O C/g KH KW + 2 N |w|; N C H W + N O OH OW + |w|",
            "GFLOP/s"};
    if (!report.wants(row)) return;
    const ConvOperands m(way.dtype, s);
    const double weights = values_of(m.w.tensor().dims);
    row.amount = flops;  // without the squares, as the product beside it
    row.flops = flops + 2 * static_cast<double>(s.n) * weights;
    row.bytes = (values_of(m.x.tensor().dims) + values_of(m.y.tensor().dims) + weights) *
                static_cast<double>(size_of(way.dtype));
    report.measure(
        row, [&] { backend.conv_grad_squares(s, m.x, m.y, m.w); }, gemm_of_size(backend, s, way.dtype));
  });
}

void bench_conv(Report& report, Backend& backend, int64_t n, int64_t c, int64_t hw, int64_t o, int64_t kernel,
                int64_t stride, int64_t groups = 1) {
  const ConvShape s = conv_shape(n, c, hw, o, kernel, stride, groups);
  const std::string shape = to_string({n, c, hw, hw}) + " to " + std::to_string(o) + " by " + std::to_string(kernel) +
                            " / " + std::to_string(stride) + (groups > 1 ? " groups " + std::to_string(groups) : "");
  const double flops = 2.0 * values_of({n, s.oh, s.ow}) * values_of({o, c / groups, kernel, kernel});
  const std::pair<const char*, ConvPart> parts[] = {{"conv ", ConvPart::forward},
                                                    {"conv_input_gradient ", ConvPart::input_gradient},
                                                    {"conv_weight_gradient ", ConvPart::weight_gradient}};
  for (const auto& [name, part] : parts) {
    each_way(true, [&, name = name, part = part](const Way& way) {
      Row row{name + shape, way.name, "2 N OH OW O C/g KH KW; N C H W + N O OH OW + |w|", "GFLOP/s"};
      if (!report.wants(row)) return;
      const ConvOperands m(way.dtype, s);
      row.flops = row.amount = flops;
      row.bytes = (values_of(m.x.tensor().dims) + values_of(m.y.tensor().dims) + values_of(m.w.tensor().dims)) *
                  static_cast<double>(size_of(way.dtype));
      Reference beside;
      if (way.onednn) beside = {"oneDNN's own", flops, own_conv(part, s)};
      const auto run = [&] {
        if (part == ConvPart::forward) backend.conv(s, m.x, m.w, m.y);
        if (part == ConvPart::input_gradient) backend.conv_input_gradient(s, m.w, m.y, m.x);
        if (part == ConvPart::weight_gradient) backend.conv_weight_gradient(s, m.x, m.y, m.w);
      };
      report.measure(row, run, beside);
    });
  }
  bench_squares(report, backend, s, shape, flops);
}

void bench_linear_squares(Report& report, Backend& backend, int64_t n, int64_t t, int64_t i, int64_t o) {
  each_way(true, [&](const Way& way) {
    Row row{"linear_grad_squares " + to_string({n, t, i, o}), way.name, "2 N T I O + 2 N I O; N T I + N T O + I O",
            "GFLOP/s"};
    if (!report.wants(row)) return;
    const Memory x(way.dtype, {n, t, i}), y(way.dtype, {n, t, o}), s(way.dtype, {i, o});
    const Memory c(way.dtype, {i, o});
    row.amount = 2.0 * values_of({n, t}) * values_of({i, o});
    row.flops = row.amount + (t > 1 ? 2 * values_of({n, i, o}) : values_of({n, i + o}));
    row.bytes =
        (values_of({n, t, i}) + values_of({n, t, o}) + values_of({i, o})) * static_cast<double>(size_of(way.dtype));
    const GemmShape g = gemm_shape(i, n * t, o, true);
    report.measure(row, [&] { backend.linear_grad_squares(n, t, i, o, x, y, s); },
                   {"a product of its size", row.amount, [&] { backend.gemm(g, x, y, c); }});
  });
}

}  // namespace

void bench_matrix(Report& report, Backend& backend) {
  if (report.settings().tiny) {
    bench_gemm(report, backend, gemm_shape(16, 16, 16));
    bench_conv(report, backend, 2, 8, 6, 8, 3, 1);
    bench_linear_squares(report, backend, 2, 3, 8, 8);
    return;
  }
  bench_gemm(report, backend, gemm_shape(1024, 1024, 1024));
  bench_gemm(report, backend, gemm_shape(256, 784, 1024, false, true));
  bench_gemm(report, backend, gemm_shape(1024, 256, 784, true, false));
  bench_gemm(report, backend, gemm_shape(256, 1024, 784));
  bench_gemm(report, backend, gemm_shape(64, 64, 64, false, true, 48));
  bench_gemm(report, backend, gemm_shape(32, 512, 10, false, true));
  bench_conv(report, backend, 32, 3, 32, 64, 3, 1);
  bench_conv(report, backend, 32, 64, 32, 64, 3, 1);
  bench_conv(report, backend, 32, 128, 16, 128, 3, 1);
  bench_conv(report, backend, 32, 256, 8, 256, 3, 1);
  bench_conv(report, backend, 32, 512, 4, 512, 3, 1);
  bench_conv(report, backend, 32, 64, 32, 128, 3, 2);
  bench_conv(report, backend, 32, 64, 32, 128, 1, 2);
  bench_conv(report, backend, 128, 3, 32, 32, 3, 1);
  bench_conv(report, backend, 128, 32, 32, 32, 3, 1);
  bench_conv(report, backend, 128, 64, 16, 64, 3, 1);
  bench_conv(report, backend, 128, 1, 28, 32, 5, 1);
  bench_conv(report, backend, 32, 128, 28, 128, 3, 1, 128);
  bench_linear_squares(report, backend, 256, 1, 1024, 1024);
  bench_linear_squares(report, backend, 32, 64, 384, 384);
}

}  // namespace palimpsest::bench
