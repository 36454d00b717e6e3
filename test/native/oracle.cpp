// The oracle's moving, elementwise, reducing, product and vector kernels.
#include "oracle.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace palimpsest::check {
namespace {

using Index = std::vector<int64_t>;

int64_t offset(const Tensor& t, const Index& at) {
  int64_t sum = 0;
  for (size_t axis = 0; axis < at.size(); ++axis) sum += at[axis] * t.strides[axis];
  return sum;
}
double& value(const Tensor& t, const Index& at) { return t.as<double>()[offset(t, at)]; }
int32_t& whole(const Tensor& t, const Index& at) { return t.as<int32_t>()[offset(t, at)]; }

template <class Visit>
void for_each(const Dims& dims, Visit visit) {
  if (element_count(dims) == 0) return;
  Index at(dims.size(), 0);
  while (true) {
    visit(at);
    int axis = static_cast<int>(dims.size()) - 1;
    while (axis >= 0 && ++at[axis] == dims[axis]) at[axis--] = 0;
    if (axis < 0) return;
  }
}

Index with(Index at, int axis, int64_t position) {
  at[axis] = position;
  return at;
}
Dims one_along(Dims dims, int axis) {
  dims[axis] = 1;
  return dims;
}

double instruction(const Instruction& step, double a, double b, double c) {
  switch (step.code) {
    case Code::unary: {
      const double f = oracle_unary(step.unary, step.order, a, step.alpha, step.beta);
      return step.order == 0 ? f : f == 0 ? 0 : f * b;
    }
    case Code::add: return a + b;
    case Code::sub: return a - b;
    case Code::mul: return a * b;
    case Code::div: return a / b;
    case Code::mul_add: return a * b + c;
    case Code::where: return a != 0 ? b : c;
    case Code::greater: return a > b ? 1 : 0;
    case Code::greater_or_equal: return a >= b ? 1 : 0;
    case Code::equal: return a == b ? 1 : 0;
    case Code::count_: break;
  }
  return NAN;
}

}  // namespace

void* OracleBackend::allocate(size_t bytes) { return std::malloc(bytes + 1); }
void OracleBackend::release(void* data) noexcept { std::free(data); }
void OracleBackend::copy_in(void* device, const void* host, size_t bytes) { std::memcpy(device, host, bytes); }
void OracleBackend::copy_out(void* host, const void* device, size_t bytes) { std::memcpy(host, device, bytes); }

void OracleBackend::fill(const Tensor& y, double v) {
  for_each(y.dims, [&](const Index& at) { value(y, at) = v; });
}
void OracleBackend::copy(const Tensor& x, const Tensor& y) {
  for_each(y.dims, [&](const Index& at) { value(y, at) = value(x, at); });
}
void OracleBackend::add_into(const Tensor& x, const Tensor& y) {
  for_each(y.dims, [&](const Index& at) { value(y, at) += value(x, at); });
}

void OracleBackend::elementwise(const ElementwiseProgram& program, std::span<const Tensor> inputs,
                                std::span<const Tensor> outputs) {
  for_each(outputs[0].dims, [&](const Index& at) {
    std::vector<double> registers;
    for (const Tensor& x : inputs) registers.push_back(value(x, at));
    for (const Instruction& step : program.instructions) {
      const auto read = [&](int32_t r) { return r < 0 ? 0.0 : registers[static_cast<size_t>(r)]; };
      registers.push_back(instruction(step, read(step.a), read(step.b), read(step.c)));
    }
    for (size_t o = 0; o < outputs.size(); ++o)
      value(outputs[o], at) = registers[static_cast<size_t>(program.outputs[o])];
  });
}

void OracleBackend::reduce_sum(const Tensor& x, const Tensor& y, double alpha) {
  fill(y, 0);
  for_each(x.dims, [&](Index at) {
    const double term = alpha * value(x, at);
    for (size_t axis = 0; axis < at.size(); ++axis) at[axis] = y.dims[axis] == 1 ? 0 : at[axis];
    value(y, at) += term;
  });
}

void OracleBackend::reduce_max(const Tensor& x, int axis, const Tensor& y, const Tensor& index) {
  for_each(y.dims, [&](const Index& at) {
    int32_t best = 0;
    for (int32_t i = 0; i < x.dims[axis]; ++i) {
      const double v = value(x, with(at, axis, i)), most = value(x, with(at, axis, best));
      if (v > most || (std::isnan(v) && !std::isnan(most))) best = i;
    }
    value(y, at) = value(x, with(at, axis, best));
    whole(index, at) = best;
  });
}

void OracleBackend::take_along_axis(const Tensor& x, const Tensor& index, int axis, const Tensor& y) {
  for_each(y.dims, [&](const Index& at) { value(y, at) = value(x, with(at, axis, whole(index, at))); });
}
void OracleBackend::put_along_axis(const Tensor& y_bar, const Tensor& index, int axis, const Tensor& x_bar) {
  fill(x_bar, 0);
  for_each(y_bar.dims, [&](const Index& at) { value(x_bar, with(at, axis, whole(index, at))) = value(y_bar, at); });
}
void OracleBackend::gather(const Tensor& x, std::span<const int64_t> indices, int axis, const Tensor& y) {
  for_each(y.dims,
           [&](const Index& at) { value(y, at) = value(x, with(at, axis, indices[static_cast<size_t>(at[axis])])); });
}
void OracleBackend::scatter_add(const Tensor& y_bar, std::span<const int64_t> indices, int axis, const Tensor& x_bar) {
  fill(x_bar, 0);
  for_each(y_bar.dims, [&](const Index& at) {
    value(x_bar, with(at, axis, indices[static_cast<size_t>(at[axis])])) += value(y_bar, at);
  });
}

void OracleBackend::softmax(const Tensor& x, int axis, const Tensor& y) {
  log_softmax(x, axis, y);
  for_each(y.dims, [&](const Index& at) { value(y, at) = std::exp(value(y, at)); });
}
void OracleBackend::log_softmax(const Tensor& x, int axis, const Tensor& y) {
  for_each(one_along(x.dims, axis), [&](const Index& at) {
    double most = -INFINITY, total = 0;
    for (int64_t i = 0; i < x.dims[axis]; ++i) most = std::fmax(most, value(x, with(at, axis, i)));
    for (int64_t i = 0; i < x.dims[axis]; ++i) total += std::exp(value(x, with(at, axis, i)) - most);
    for (int64_t i = 0; i < x.dims[axis]; ++i) {
      value(y, with(at, axis, i)) = value(x, with(at, axis, i)) - most - std::log(total);
    }
  });
}

void OracleBackend::gemm(const GemmShape& s, const Tensor& a, const Tensor& b, const Tensor& c) {
  for (int64_t i = 0; i < s.batch; ++i) {
    for (int64_t m = 0; m < s.m; ++m) {
      for (int64_t n = 0; n < s.n; ++n) {
        double sum = 0;
        for (int64_t k = 0; k < s.k; ++k) {
          sum += a.as<double>()[i * s.stride_a + (s.trans_a ? k * s.lda + m : m * s.lda + k)] *
                 b.as<double>()[i * s.stride_b + (s.trans_b ? n * s.ldb + k : k * s.ldb + n)];
        }
        double& to = c.as<double>()[i * s.stride_c + m * s.ldc + n];
        to = s.alpha * sum + (s.beta == 0 ? 0 : s.beta * to);
      }
    }
  }
}

void OracleBackend::batch_norm_statistics(const Tensor& x, double epsilon, const Tensor& mean, const Tensor& rstd) {
  const int64_t channels = x.dims[1], count = element_count(x.dims) / channels;
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0, squares = 0;
    for_each(x.dims, [&](const Index& at) { sum += at[1] == c ? value(x, at) : 0; });
    const double center = sum / static_cast<double>(count);
    for_each(x.dims, [&](const Index& at) { squares += at[1] == c ? std::pow(value(x, at) - center, 2) : 0; });
    mean.as<double>()[c] = center;
    rstd.as<double>()[c] = 1 / std::sqrt(squares / static_cast<double>(count) + epsilon);
  }
}

void OracleBackend::channel_statistics(const Tensor& x, const Tensor& labels, const Tensor& sums) {
  const int64_t classes = labels.dims[1], channels = x.dims[1];
  const double positions = static_cast<double>(x.dims[2] * x.dims[3]);
  double* to = sums.as<double>();
  std::fill_n(to, 3 * classes * channels, 0.0);
  for_each(x.dims, [&](const Index& at) {
    for (int64_t k = 0; k < classes; ++k) {
      if (labels.as<double>()[at[0] * classes + k] == 0) continue;
      to[k * channels + at[1]] += std::max(value(x, at), 0.0) / positions;
    }
  });
}

double OracleBackend::dot(const Tensor& x, const Tensor& y) {
  double sum = 0;
  for (int64_t i = 0; i < element_count(x.dims); ++i) sum += x.as<double>()[i] * y.as<double>()[i];
  return sum;
}
void OracleBackend::axpy(double alpha, const Tensor& x, const Tensor& y) {
  for (int64_t i = 0; i < element_count(x.dims); ++i) y.as<double>()[i] += alpha * x.as<double>()[i];
}
void OracleBackend::scale(double alpha, const Tensor& y) {
  for (int64_t i = 0; i < element_count(y.dims); ++i) y.as<double>()[i] *= alpha;
}
void OracleBackend::sgd_step(const SgdStep& step, const Tensor& gradient, const Tensor& velocity, const Tensor& w) {
  for (int64_t i = 0; i < element_count(w.dims); ++i) {
    const double g = gradient.as<double>()[i] + step.weight_decay * w.as<double>()[i];
    double v = g;
    if (velocity.data) v = velocity.as<double>()[i] = step.momentum * velocity.as<double>()[i] + g;
    w.as<double>()[i] -= step.rate * (step.nesterov ? g + step.momentum * v : v);
  }
}

void OracleBackend::gather_rows(const GatherSpec& spec, std::span<const GatherRow> rows, const void* store,
                                bool store_is_u8, const Tensor& y) {
  const auto read = [&](int64_t i) {
    return store_is_u8 ? static_cast<const uint8_t*>(store)[i]
                       : static_cast<double>(static_cast<const float*>(store)[i]);
  };
  const auto of_channel = [](std::span<const float> values, int64_t c) {
    return static_cast<double>(values[values.size() == 1 ? 0 : static_cast<size_t>(c)]);
  };
  for_each(y.dims, [&](const Index& at) {
    const GatherRow& row = rows[static_cast<size_t>(at[0])];
    int64_t h = 0, w = 0;
    if (at.size() == 4) {
      h = at[2] + row.dy - spec.pad;
      w = (row.flip ? y.dims[3] - 1 - at[3] : at[3]) + row.dx - spec.pad;
    }
    const bool inside = h >= 0 && h < spec.height && w >= 0 && w < spec.width;
    const int64_t from = ((row.index * spec.channels + at[1]) * spec.height + h) * spec.width + w;
    value(y, at) = inside ? read(from) * of_channel(spec.scale, at[1]) + of_channel(spec.shift, at[1]) : 0;
  });
}

}  // namespace palimpsest::check
