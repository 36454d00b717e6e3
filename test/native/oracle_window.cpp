// The oracle's convolutions, per-example squares and pooling, by their sums.
#include <cmath>

#include "oracle.h"

namespace palimpsest::check {
namespace {

// visit(n, o, c, kh, kw, x index, w index, y index) for every term of the convolution's sum that lies inside x.
template <class Visit>
void for_terms(const ConvShape& s, Visit visit) {
  const int64_t in = s.c / s.groups, out = s.o / s.groups;
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t i = 0; i < s.oh; ++i) {
      for (int64_t j = 0; j < s.ow; ++j) {
        for (int64_t o = 0; o < s.o; ++o) {
          for (int64_t c = 0; c < in; ++c) {
            for (int64_t kh = 0; kh < s.kh; ++kh) {
              for (int64_t kw = 0; kw < s.kw; ++kw) {
                const int64_t h = i * s.stride_h + kh * s.dilation_h - s.pad_top;
                const int64_t w = j * s.stride_w + kw * s.dilation_w - s.pad_left;
                if (h < 0 || h >= s.h || w < 0 || w >= s.w) continue;
                const int64_t channel = o / out * in + c;
                visit(n, ((n * s.h + h) * s.w + w) * s.c + channel, ((o * in + c) * s.kh + kh) * s.kw + kw,
                      ((n * s.oh + i) * s.ow + j) * s.o + o);
              }
            }
          }
        }
      }
    }
  }
}

void zero(const Tensor& t) {
  for (int64_t i = 0; i < element_count(t.dims); ++i) t.as<double>()[i] = 0;
}

// visit(y index, x index, h w + w) for every position of every window.
template <class Visit>
void for_window_positions(const ConvShape& s, Visit visit) {
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t i = 0; i < s.oh; ++i) {
      for (int64_t j = 0; j < s.ow; ++j) {
        for (int64_t c = 0; c < s.c; ++c) {
          for (int64_t kh = 0; kh < s.kh; ++kh) {
            for (int64_t kw = 0; kw < s.kw; ++kw) {
              const int64_t h = i * s.stride_h + kh * s.dilation_h - s.pad_top;
              const int64_t w = j * s.stride_w + kw * s.dilation_w - s.pad_left;
              if (h < 0 || h >= s.h || w < 0 || w >= s.w) continue;
              visit(((n * s.oh + i) * s.ow + j) * s.c + c, ((n * s.h + h) * s.w + w) * s.c + c,
                    static_cast<int32_t>(h * s.w + w));
            }
          }
        }
      }
    }
  }
}

// The number that each window's sum is divided by.
std::vector<double> window_counts(const ConvShape& s, bool count_pads) {
  std::vector<double> counts(static_cast<size_t>(s.n * s.oh * s.ow * s.c),
                             count_pads ? static_cast<double>(s.kh * s.kw) : 0);
  if (!count_pads) for_window_positions(s, [&](int64_t y, int64_t, int32_t) { ++counts[static_cast<size_t>(y)]; });
  return counts;
}

}  // namespace

void OracleBackend::conv(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y) {
  zero(y);
  for_terms(s, [&](int64_t, int64_t xi, int64_t wi, int64_t yi) {
    y.as<double>()[yi] += x.as<double>()[xi] * w.as<double>()[wi];
  });
}
void OracleBackend::conv_input_gradient(const ConvShape& s, const Tensor& w, const Tensor& y_bar, const Tensor& x_bar) {
  zero(x_bar);
  for_terms(s, [&](int64_t, int64_t xi, int64_t wi, int64_t yi) {
    x_bar.as<double>()[xi] += y_bar.as<double>()[yi] * w.as<double>()[wi];
  });
}
void OracleBackend::conv_weight_gradient(const ConvShape& s, const Tensor& x, const Tensor& y_bar,
                                         const Tensor& w_bar) {
  zero(w_bar);
  for_terms(s, [&](int64_t, int64_t xi, int64_t wi, int64_t yi) {
    w_bar.as<double>()[wi] += y_bar.as<double>()[yi] * x.as<double>()[xi];
  });
}
void OracleBackend::conv_grad_squares(const ConvShape& s, const Tensor& x, const Tensor& y_bar, const Tensor& out) {
  const size_t size = static_cast<size_t>(element_count(out.dims));
  std::vector<double> gradients(static_cast<size_t>(s.n) * size);
  for_terms(s, [&](int64_t n, int64_t xi, int64_t wi, int64_t yi) {
    gradients[static_cast<size_t>(n) * size + static_cast<size_t>(wi)] += y_bar.as<double>()[yi] * x.as<double>()[xi];
  });
  zero(out);
  for (size_t i = 0; i < gradients.size(); ++i) out.as<double>()[i % size] += gradients[i] * gradients[i];
}
void OracleBackend::linear_grad_squares(int64_t n, int64_t t, int64_t i, int64_t o, const Tensor& x,
                                        const Tensor& y_bar, const Tensor& s) {
  zero(s);
  for (int64_t example = 0; example < n; ++example) {
    for (int64_t row = 0; row < i; ++row) {
      for (int64_t column = 0; column < o; ++column) {
        double sum = 0;
        for (int64_t token = example * t; token < (example + 1) * t; ++token) {
          sum += x.as<double>()[token * i + row] * y_bar.as<double>()[token * o + column];
        }
        s.as<double>()[row * o + column] += sum * sum;
      }
    }
  }
}

void OracleBackend::max_pool(const ConvShape& s, const Tensor& x, const Tensor& y, const Tensor& index) {
  for (int64_t i = 0; i < element_count(y.dims); ++i) y.as<double>()[i] = -INFINITY, index.as<int32_t>()[i] = -1;
  for_window_positions(s, [&](int64_t yi, int64_t xi, int32_t position) {
    double& best = y.as<double>()[yi];
    const double v = x.as<double>()[xi];
    if (index.as<int32_t>()[yi] >= 0 && !(v > best) && (std::isnan(best) || !std::isnan(v))) return;
    best = v;
    index.as<int32_t>()[yi] = position;
  });
}
void OracleBackend::pool_gather(const ConvShape& s, const Tensor& x, const Tensor& index, const Tensor& y) {
  const int64_t outputs = s.oh * s.ow * s.c;
  for (int64_t i = 0; i < element_count(y.dims); ++i) {
    const int64_t from = i / outputs * s.h * s.w * s.c + index.as<int32_t>()[i] * s.c + i % s.c;
    y.as<double>()[i] = index.as<int32_t>()[i] < 0 ? 0 : x.as<double>()[from];
  }
}
void OracleBackend::pool_scatter(const ConvShape& s, const Tensor& y_bar, const Tensor& index, const Tensor& x_bar) {
  zero(x_bar);
  const int64_t outputs = s.oh * s.ow * s.c;
  for (int64_t i = 0; i < element_count(y_bar.dims); ++i) {
    if (index.as<int32_t>()[i] < 0) continue;
    x_bar.as<double>()[i / outputs * s.h * s.w * s.c + index.as<int32_t>()[i] * s.c + i % s.c] += y_bar.as<double>()[i];
  }
}
void OracleBackend::average_pool(const ConvShape& s, bool count_pads, const Tensor& x, const Tensor& y) {
  const std::vector<double> counts = window_counts(s, count_pads);
  zero(y);
  for_window_positions(s, [&](int64_t yi, int64_t xi, int32_t) {
    y.as<double>()[yi] += x.as<double>()[xi] / counts[static_cast<size_t>(yi)];
  });
}
void OracleBackend::average_pool_gradient(const ConvShape& s, bool count_pads, const Tensor& y_bar,
                                          const Tensor& x_bar) {
  const std::vector<double> counts = window_counts(s, count_pads);
  zero(x_bar);
  for_window_positions(s, [&](int64_t yi, int64_t xi, int32_t) {
    x_bar.as<double>()[xi] += y_bar.as<double>()[yi] / counts[static_cast<size_t>(yi)];
  });
}

}  // namespace palimpsest::check
