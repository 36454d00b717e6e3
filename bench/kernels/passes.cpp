// Passes over memory, each beside a copy of as many bytes.
#include "measure.h"

namespace palimpsest::bench {

namespace {

Instruction step(Code code, int32_t a, int32_t b, int32_t c = -1) { return {code, Unary::identity, 0, a, b, c, 0, 0}; }
Instruction function(Unary unary, int order, int32_t a, int32_t b = -1) {
  return {Code::unary, unary, static_cast<uint8_t>(order), a, b, -1, 0, 0};
}

// Row n of labels [N, K], which hold anything.
void one_hot(const Tensor& labels, int64_t n, int64_t label) {
  for (int64_t k = 0; k < labels.dims[1]; ++k) {
    const int64_t at = n * labels.dims[1] + k;
    if (labels.dtype == DType::f32) labels.as<float>()[at] = k == label ? 1.0f : 0.0f;
    if (labels.dtype == DType::f64) labels.as<double>()[at] = k == label ? 1.0 : 0.0;
  }
}

Dims activations(const Report& report) { return report.settings().tiny ? Dims{2, 8, 6, 6} : Dims{32, 64, 56, 56}; }

// A copy that reads and writes `bytes` in all.
Reference copy_of(Backend& backend, DType dtype, double bytes) {
  const int64_t count = static_cast<int64_t>(bytes / 2) / static_cast<int64_t>(size_of(dtype));
  const auto from = std::make_shared<Memory>(dtype, Dims{count}), to = std::make_shared<Memory>(dtype, Dims{count});
  return {"a copy of its bytes", bytes, [&backend, from, to] { backend.copy(*from, *to); }};
}

// A row of `bytes` read and written; `operations` an element are what it computes, for the record.
class Passes {
 public:
  Passes(Report& report, Backend& backend, const Way& way, double elements)
      : report_(report), backend_(backend), way_(way), elements_(elements) {}

  void operator()(const std::string& name, const std::string& formula, double bytes, double operations,
                  const std::function<void()>& run) {
    Row row{name, way_.name, formula, "GB/s"};
    row.amount = row.bytes = bytes;
    row.flops = operations * elements_;
    if (report_.wants(row)) report_.measure(row, run, copy_of(backend_, way_.dtype, bytes));
  }

 private:
  Report& report_;
  Backend& backend_;
  const Way& way_;
  double elements_;
};

void bench_elementwise(Report& report, Backend& backend, const Way& way) {
  const Dims dims = activations(report);
  const double count = static_cast<double>(element_count(dims)), size = static_cast<double>(size_of(way.dtype));
  const Layout last = Layout::channels_last;
  const Memory x(way.dtype, dims, last), y(way.dtype, dims, last), z(way.dtype, dims, last),
      channel(way.dtype, {dims[1], 1, 1});
  const Tensor& c = channel;
  const Tensor scale{c.data, c.dtype, dims, broadcast_strides(c.dims, c.strides, dims)};
  const Tensor one[] = {x}, two[] = {x, z}, affine[] = {x, scale, scale}, chain[] = {x, scale, scale, z}, to[] = {y},
               over[] = {z};
  Passes passes(report, backend, way, count);
  const auto row = [&](const std::string& name, int tensors, const ElementwiseProgram& program,
                       std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
    passes("elementwise " + name, std::to_string(tensors) + " n", tensors * count * size,
           static_cast<double>(program.instructions.size()), [&] { backend.elementwise(program, inputs, outputs); });
  };
  const Instruction relu = function(Unary::relu, 0, 0), normalised = step(Code::mul_add, 0, 1, 2);
  row("relu", 2, {1, {relu}, {1}}, one, to);
  row("add in place", 3, {2, {step(Code::add, 0, 1)}, {2}}, two, over);
  row("bias, scale, relu", 2, {3, {normalised, function(Unary::relu, 0, 3)}, {4}}, affine, to);
  row("normalise, relu, tangent", 3, {4, {normalised, function(Unary::relu, 1, 4, 3)}, {5}}, chain, to);
  for (const auto& [name, unary] : {std::pair{"sigmoid", Unary::sigmoid},
                                    {"tanh", Unary::tanh},
                                    {"gelu", Unary::gelu},
                                    {"exp", Unary::exp},
                                    {"log", Unary::log},
                                    {"softplus", Unary::softplus},
                                    {"mish", Unary::mish}}) {
    row(name, 2, {1, {function(unary, 0, 0)}, {1}}, one, to);
  }
  row("gelu'", 3, {2, {function(Unary::gelu, 1, 0, 1)}, {2}}, two, to);
}

void bench_moves(Report& report, Backend& backend, const Way& way) {
  const Dims dims = activations(report);
  const double count = static_cast<double>(element_count(dims)),
               bytes = count * static_cast<double>(size_of(way.dtype));
  const Memory x(way.dtype, dims), y(way.dtype, dims, Layout::channels_last), z(way.dtype, dims, Layout::channels_last);
  const Memory sums(way.dtype, {1, dims[1], 1, 1}), mean(way.dtype, {dims[1]}), rstd(way.dtype, {dims[1]});
  Passes passes(report, backend, way, count);
  passes("copy to channels-last", "2 n", 2 * bytes, 0, [&] { backend.copy(x, y); });
  passes("copy to row-major", "2 n", 2 * bytes, 0, [&] { backend.copy(y, x); });
  passes("copy as it lies", "2 n", 2 * bytes, 0, [&] { backend.copy(y, z); });
  passes("add_into", "3 n", 3 * bytes, 1, [&] { backend.add_into(y, z); });
  passes("fill", "n", bytes, 0, [&] { backend.fill(z, 1); });
  passes("reduce_sum to channels", "n", bytes, 1, [&] { backend.reduce_sum(y, sums, 1); });
  passes("batch_norm_statistics", "2 n", 2 * bytes, 4, [&] { backend.batch_norm_statistics(y, 1e-5, mean, rstd); });
  const Memory labels(way.dtype, {dims[0], 10}), by_class(way.dtype, {3, 10, dims[1]});
  for (int64_t n = 0; n < dims[0]; ++n) one_hot(labels, n, n % 10);
  passes("channel_statistics", "n", bytes, 2, [&] { backend.channel_statistics(y, labels, by_class); });
  passes("dot", "2 n", 2 * bytes, 2, [&] { backend.dot(y, z); });
  passes("axpy", "3 n", 3 * bytes, 2, [&] { backend.axpy(1e-9, y, z); });
}

void bench_pools(Report& report, Backend& backend, const Way& way) {
  const Dims dims = activations(report);
  const double count = static_cast<double>(element_count(dims)), size = static_cast<double>(size_of(way.dtype));
  const Memory y(way.dtype, dims, Layout::channels_last);
  ConvShape s;
  s.n = dims[0], s.c = s.o = dims[1], s.h = s.w = dims[2], s.oh = s.ow = dims[2] / 2, s.kh = s.kw = 3;
  s.stride_h = s.stride_w = 2, s.pad_top = s.pad_left = 1;
  const Dims small{s.n, s.c, s.oh, s.ow};
  const Memory pooled(way.dtype, small, Layout::channels_last), index(DType::i32, small, Layout::channels_last);
  const double windows = static_cast<double>(element_count(small)), with_index = (count + windows) * size + 4 * windows;
  Passes passes(report, backend, way, windows);
  passes("max_pool", "n + n/4, and 4 bytes n/4", with_index, 9, [&] { backend.max_pool(s, y, pooled, index); });
  passes("pool_scatter", "n + n/4, and 4 bytes n/4", with_index, 0, [&] { backend.pool_scatter(s, pooled, index, y); });
  passes("average_pool", "n + n/4", (count + windows) * size, 9, [&] { backend.average_pool(s, true, y, pooled); });
}

void bench_softmax(Report& report, Backend& backend, const Way& way) {
  const Dims dims = report.settings().tiny ? Dims{8, 10} : Dims{4096, 1000};
  const double count = static_cast<double>(element_count(dims)), size = static_cast<double>(size_of(way.dtype));
  const Memory logits(way.dtype, dims), soft(way.dtype, dims);
  Passes passes(report, backend, way, count);
  passes("softmax " + to_string(dims), "2 n", 2 * count * size, 5, [&] { backend.softmax(logits, 1, soft); });
}

}  // namespace

void bench_passes(Report& report, Backend& backend) {
  each_way(false, [&](const Way& way) {
    bench_elementwise(report, backend, way);
    bench_moves(report, backend, way);
    bench_pools(report, backend, way);
    bench_softmax(report, backend, way);
  });
}

}  // namespace palimpsest::bench
