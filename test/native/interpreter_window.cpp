// Rows over sliding windows, by one loop over every (output, tap, channel) of the convolution or pool.
#include "interpreter_window.h"

#include <limits>
#include <stdexcept>

namespace palimpsest::check {

namespace {

int64_t entry(const Dims& dims, size_t i, int64_t fallback) { return dims.empty() ? fallback : dims[i]; }

size_t at4(const Dims& dims, int64_t a, int64_t b, int64_t c, int64_t d) {
  return static_cast<size_t>(((a * dims[1] + b) * dims[2] + c) * dims[3] + d);
}

// Calls body(n, i, j, kh, kw, h, w) for every tap of every window that reads inside x.
template <class Body>
void for_taps(const Attributes& a, const Dims& x, const Dims& y, const Dims& kernel, Body body) {
  for (int64_t n = 0; n < y[0]; ++n)
    for (int64_t i = 0; i < y[2]; ++i)
      for (int64_t j = 0; j < y[3]; ++j)
        for (int64_t kh = 0; kh < kernel[0]; ++kh)
          for (int64_t kw = 0; kw < kernel[1]; ++kw) {
            const int64_t h = i * entry(a.strides, 0, 1) + kh * entry(a.dilations, 0, 1) - entry(a.pads, 0, 0);
            const int64_t w = j * entry(a.strides, 1, 1) + kw * entry(a.dilations, 1, 1) - entry(a.pads, 1, 0);
            if (h >= 0 && h < x[2] && w >= 0 && w < x[3]) body(n, i, j, kh, kw, h, w);
          }
}

// Calls body(n, position in x, in w, in y) for every product of the convolution.
template <class Body>
void for_products(const Attributes& a, const Dims& x, const Dims& w, const Dims& y, Body body) {
  for_taps(a, x, y, {w[2], w[3]}, [&](int64_t n, int64_t i, int64_t j, int64_t kh, int64_t kw, int64_t h, int64_t v) {
    for (int64_t o = 0; o < w[0]; ++o)
      for (int64_t c = 0; c < w[1]; ++c) {
        const int64_t channel = o / (w[0] / a.group) * w[1] + c;
        body(n, at4(x, n, channel, h, v), at4(w, o, c, kh, kw), at4(y, n, o, i, j));
      }
  });
}

// s = sum_n (weight gradient of example n)^2
Values conv_squares(const Attributes& a, const Values& x, const Values& g, const Dims& dx, const Dims& dw,
                    const Dims& dy) {
  const auto weights = static_cast<size_t>(element_count(dw));
  Values each(weights * static_cast<size_t>(dx[0])), out(weights);
  for_products(a, dx, dw, dy, [&](int64_t n, size_t ix, size_t iw, size_t iy) {
    each[static_cast<size_t>(n) * weights + iw] += x[ix] * g[iy];
  });
  for (size_t i = 0; i < each.size(); ++i) out[i % weights] += each[i] * each[i];
  return out;
}

std::vector<Values> max_pool(const Node& node, const Values& x, const Dims& dx, const Dims& dy) {
  const auto count = static_cast<size_t>(element_count(dy));
  Values best(count, -std::numeric_limits<double>::infinity()), where(count, -1);
  for_taps(node.attributes, dx, dy, node.attributes.kernel,
           [&](int64_t n, int64_t i, int64_t j, int64_t, int64_t, int64_t h, int64_t w) {
             for (int64_t c = 0; c < dx[1]; ++c) {
               const size_t to = at4(dy, n, c, i, j);
               const double value = x[at4(dx, n, c, h, w)];
               if (value > best[to]) best[to] = value, where[to] = static_cast<double>(h * dx[3] + w);
             }
           });
  return {best, where};
}

// y[o] = x[index[o]] (gather), or x_bar[index[o]] += y_bar[o]
Values follow_index(const Values& from, const Values& index, const Dims& dx, const Dims& dy, bool gather) {
  Values to(static_cast<size_t>(element_count(gather ? dy : dx)));
  for (size_t o = 0; o < index.size(); ++o) {
    const size_t plane = o / static_cast<size_t>(dy[2] * dy[3]);
    const size_t i = plane * static_cast<size_t>(dx[2] * dx[3]) + static_cast<size_t>(index[o]);
    if (gather) to[o] = from.at(i);
    else to.at(i) += from[o];
  }
  return to;
}

// y = mean of each window (forward), or its adjoint
Values average_pool(const Attributes& a, const Values& from, const Dims& dx, const Dims& dy, bool forward) {
  Values to(static_cast<size_t>(element_count(forward ? dy : dx))), taps(static_cast<size_t>(dy[2] * dy[3]));
  const auto visit = [&](auto body) {
    for_taps(a, dx, dy, a.kernel, [&](int64_t n, int64_t i, int64_t j, int64_t, int64_t, int64_t h, int64_t w) {
      body(n, i, j, h, w, static_cast<size_t>(i * dy[3] + j));
    });
  };
  visit([&](int64_t n, int64_t, int64_t, int64_t, int64_t, size_t window) { taps[window] += n == 0; });
  visit([&](int64_t n, int64_t i, int64_t j, int64_t h, int64_t w, size_t window) {
    const double count = a.count_pads ? static_cast<double>(a.kernel[0] * a.kernel[1]) : taps[window];
    for (int64_t c = 0; c < dx[1]; ++c) {
      const size_t ix = at4(dx, n, c, h, w), iy = at4(dy, n, c, i, j);
      to[forward ? iy : ix] += from[forward ? ix : iy] / count;
    }
  });
  return to;
}

}  // namespace

bool is_window_row(Op op) {
  switch (op) {
    case Op::Conv:
    case Op::ConvInputGradient:
    case Op::ConvWeightGradient:
    case Op::ConvGradientSquares:
    case Op::MaxPool:
    case Op::PoolGather:
    case Op::PoolScatter:
    case Op::AveragePool:
    case Op::AveragePoolGradient: return true;
    default: return false;
  }
}

std::vector<Values> window_row(const Node& node, const std::vector<Values>& in, const std::vector<Dims>& d,
                               const Dims& y) {
  const Attributes& a = node.attributes;
  Values out(static_cast<size_t>(element_count(y)));
  switch (node.op) {
    case Op::Conv:
      for_products(a, d[0], d[1], y, [&](int64_t, size_t x, size_t w, size_t o) { out[o] += in[0][x] * in[1][w]; });
      return {out};
    case Op::ConvInputGradient:
      for_products(a, y, d[1], d[0], [&](int64_t, size_t x, size_t w, size_t o) { out[x] += in[0][o] * in[1][w]; });
      return {out};
    case Op::ConvWeightGradient:
      for_products(a, d[0], y, d[1], [&](int64_t, size_t x, size_t w, size_t o) { out[w] += in[0][x] * in[1][o]; });
      return {out};
    case Op::ConvGradientSquares: return {conv_squares(a, in[0], in[1], d[0], y, d[1])};
    case Op::MaxPool: return max_pool(node, in[0], d[0], y);
    case Op::PoolGather: return {follow_index(in[0], in[1], d[0], y, true)};
    case Op::PoolScatter: return {follow_index(in[0], in[1], y, d[0], false)};
    case Op::AveragePool: return {average_pool(a, in[0], d[0], y, true)};
    case Op::AveragePoolGradient: return {average_pool(a, in[0], y, d[0], false)};
    default: throw std::logic_error("not a row over windows");
  }
}

}  // namespace palimpsest::check
