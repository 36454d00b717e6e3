// Sweep over the kernels that move, reduce, pool, normalise and update.
#include <algorithm>
#include <cmath>
#include <utility>

#include "kernel_case.h"

using namespace palimpsest;
using namespace palimpsest::check;

namespace {

constexpr Layout first = Layout::row_major, last = Layout::channels_last;

// Strides of dims whose axes lie in memory in `order`, outermost first, with `gap` elements after each innermost run.
Dims permuted(const Dims& dims, const std::vector<size_t>& order, int64_t gap = 0) {
  Dims strides(dims.size());
  int64_t stride = 1;
  for (size_t i = order.size(); i-- > 0;) {
    strides[order[i]] = stride;
    stride = stride * dims[order[i]] + gap;
  }
  return strides;
}

struct View {
  Dims dims;
  std::vector<size_t> x, y;  // the order of axes in memory
  int64_t gap_x, gap_y;
};

const View views[] = {
    {{5}, {0}, {0}, 0, 0},
    {{40000}, {0}, {0}, 0, 0},
    {{3, 7, 5, 4}, {0, 1, 2, 3}, {0, 2, 3, 1}, 0, 0},  // to channels-last
    {{3, 7, 5, 4}, {0, 2, 3, 1}, {0, 1, 2, 3}, 0, 0},  // and back
    {{2, 33, 17, 19}, {0, 1, 2, 3}, {0, 2, 3, 1}, 0, 0},
    {{2, 65, 70}, {0, 2, 1}, {0, 1, 2}, 3, 2},
    {{4, 5, 6}, {2, 1, 0}, {1, 0, 2}, 1, 0},
    {{4, 5, 6}, {0, 1, 2}, {0, 1, 2}, 2, 3},
    {{2, 3, 2, 3, 2, 3}, {5, 3, 1, 0, 2, 4}, {0, 1, 2, 3, 4, 5}, 0, 1},
    {{1, 1}, {0, 1}, {0, 1}, 0, 0},
    {{}, {}, {}, 0, 0},
    {{0, 3}, {0, 1}, {0, 1}, 0, 0},
};

std::string text(const View& v) {
  const auto order = [](const std::vector<size_t>& axes) { return to_string(Dims(axes.begin(), axes.end())); };
  return to_string(v.dims) + " " + order(v.x) + " to " + order(v.y) + (v.gap_x + v.gap_y ? " gaps" : "");
}

void for_dims(const Dims& dims, Dims& x, Dims& y, const View& v) {
  x = permuted(dims, v.x, v.gap_x);
  y = permuted(dims, v.y, v.gap_y);
}

}  // namespace

SWEEP(moving_cases) {
  for (const View& v : views) {
    Dims xs, ys;
    for_dims(v.dims, xs, ys, v);
    const bool telling = element_count(v.dims) > 0;
    add_kernel_case(
        "copy " + text(v),
        [=](Backend& backend, Stage& stage) {
          const Tensor x = stage.input(v.dims, xs);
          backend.copy(x, stage.output(v.dims, ys, {}));
        },
        false, telling);
    add_kernel_case(
        "copy from float32 " + text(v),
        [=](Backend& backend, Stage& stage) {
          Tensor x = stage.input_of(DType::f32, v.dims);
          backend.copy(x, stage.output(v.dims, ys, {}));
        },
        false, telling);
    add_kernel_case(
        "add_into " + text(v),
        [=](Backend& backend, Stage& stage) {
          const Tensor x = stage.input(v.dims, xs);
          backend.add_into(x, stage.changed(v.dims, ys, sum_of(1)));
        },
        false, telling);
    add_kernel_case(
        "fill " + text(v), [=](Backend& backend, Stage& stage) { backend.fill(stage.output(v.dims, ys, {}), -1.25); },
        false, telling);
  }
  add_kernel_case("copy broadcast", [](Backend& backend, Stage& stage) {
    const Tensor x = stage.input({5, 1}, first);
    backend.copy({x.data, x.dtype, {4, 5, 7}, {0, 1, 0}}, stage.output({4, 5, 7}, {}, last));
  });
  add_kernel_case("add_into broadcast", [](Backend& backend, Stage& stage) {
    const Tensor x = stage.input({5}, first);
    backend.add_into({x.data, x.dtype, {4, 5, 7, 3}, {0, 1, 0, 0}},
                     stage.changed({4, 5, 7, 3}, {105, 1, 15, 5}, sum_of(1)));
  });
}

SWEEP(reduction_cases) {
  struct Row {
    Dims dims;
    std::vector<size_t> order, summed;
  };
  const Row rows[] = {
      {{6, 7}, {0, 1}, {1}},
      {{6, 7}, {0, 1}, {0}},
      {{130, 67}, {0, 1}, {0}},
      {{67, 130}, {0, 1}, {1}},
      {{100003}, {0}, {0}},
      {{65536}, {0}, {0}},
      {{5, 40, 9, 11}, {0, 2, 3, 1}, {0, 2, 3}},  // channel sums, channels-last
      {{5, 40, 9, 11}, {0, 2, 3, 1}, {2, 3}},
      {{5, 40, 9, 11}, {0, 2, 3, 1}, {1}},
      {{5, 40, 9, 11}, {0, 1, 2, 3}, {0, 2, 3}},  // and row-major
      {{40, 3, 33, 31}, {0, 2, 3, 1}, {0, 2, 3}},
      {{300, 64, 9}, {0, 2, 1}, {0, 2}},
      {{3, 4, 5, 6}, {0, 1, 2, 3}, {0, 1, 2, 3}},
      {{3, 4, 5, 6}, {3, 1, 2, 0}, {1, 3}},
      {{3, 4, 5, 6}, {0, 1, 2, 3}, {}},
      {{2, 1, 3}, {0, 1, 2}, {1}},
      {{2, 0, 3}, {0, 1, 2}, {1}},
      {{0, 2, 3}, {0, 1, 2}, {1}},
  };
  for (const Row& r : rows) {
    Dims to = r.dims;
    double terms = 1;
    for (const size_t axis : r.summed) terms *= static_cast<double>(std::exchange(to[axis], 1));
    const std::string name =
        to_string(r.dims) + " in " + to_string(Dims(r.order.begin(), r.order.end())) + " to " + to_string(to);
    const bool telling = element_count(r.dims) > 0;
    add_kernel_case(
        "reduce_sum " + name,
        [=](Backend& backend, Stage& stage) {
          const Tensor x = stage.input(r.dims, permuted(r.dims, r.order));
          const Tensor y = stage.output(to, permuted(to, r.order), float64_sum_of(terms));
          backend.reduce_sum(x, y, stage.magnitudes() ? 0.75 : -0.75);
        },
        false, telling);
    for (int axis = 0; axis < static_cast<int>(r.dims.size()); ++axis) {
      if (r.dims[static_cast<size_t>(axis)] == 0) continue;
      Dims kept = r.dims;
      kept[static_cast<size_t>(axis)] = 1;
      const std::string along = name + " axis " + std::to_string(axis);
      add_kernel_case(
          "reduce_max " + along,
          [=](Backend& backend, Stage& stage) {
            const Tensor x = stage.input(r.dims, permuted(r.dims, r.order),
                                         {0, 0, {0.5, -1, 2, 0.25, 2, 1, -3, 2, 1.5, 0.75, -0.5}});
            backend.reduce_max(x, axis, stage.output(kept, {}), stage.index_output(kept, permuted(kept, r.order)));
          },
          false, telling);
    }
  }
}

TEST(reduce_max_takes_the_first_nan) {
  const std::shared_ptr<Backend> backend = open_backend("cpu");
  float x[] = {1, NAN, 5, NAN, -INFINITY, -INFINITY, NAN, 2}, y[2];
  int32_t index[2];
  backend->reduce_max(dense_tensor(x, DType::f32, {2, 4}), 1, dense_tensor(y, DType::f32, {2, 1}),
                      dense_tensor(index, DType::i32, {2, 1}));
  CHECK(std::isnan(y[0]) && index[0] == 1);
  CHECK(std::isnan(y[1]) && index[1] == 2);
}

SWEEP(along_axis_cases) {
  const Dims all[] = {{6, 10}, {10, 6}, {3, 5, 4, 7}, {2, 1, 3}, {70, 130}};
  for (const Dims& dims : all) {
    for (int axis = 0; axis < static_cast<int>(dims.size()); ++axis) {
      for (const Layout layout : {first, last}) {
        if (layout == last && dims.size() < 4) continue;
        const int64_t size = dims[static_cast<size_t>(axis)];
        Dims kept = dims, picked = dims;
        kept[static_cast<size_t>(axis)] = 1;
        const std::vector<int64_t> indices = {size - 1, 0, size / 2, 0};
        picked[static_cast<size_t>(axis)] = static_cast<int64_t>(indices.size());
        const std::string name = to_string(dims) + " axis " + std::to_string(axis) + (layout == last ? " last" : "");
        const Dims strides = strides_of(kept, layout);
        add_kernel_case("take_along_axis " + name, [=](Backend& backend, Stage& stage) {
          const Tensor x = stage.input(dims, layout), index = stage.index_input(kept, strides, size);
          backend.take_along_axis(x, index, axis, stage.output(kept, {}));
        });
        add_kernel_case(
            "put_along_axis " + name,
            [=](Backend& backend, Stage& stage) {
              const Tensor y_bar = stage.input(kept), index = stage.index_input(kept, strides, size);
              backend.put_along_axis(y_bar, index, axis, stage.output(dims, {}, layout));
            },
            false, size == 1);
        add_kernel_case("gather " + name, [=](Backend& backend, Stage& stage) {
          const Tensor x = stage.input(dims, layout);
          backend.gather(x, indices, axis, stage.output(picked, {}));
        });
        add_kernel_case(
            "scatter_add " + name,
            [=](Backend& backend, Stage& stage) {
              const Tensor y_bar = stage.input(picked);
              backend.scatter_add(y_bar, indices, axis, stage.output(dims, sum_of(4), layout));
            },
            false, size <= 4);
        const InputValues spread{-20, 20, {}};
        add_kernel_case("softmax " + name, [=](Backend& backend, Stage& stage) {
          const Tensor x = stage.input(dims, layout, spread);
          // e^x multiplies the rounding of x - max by |x - max| <= 40.
          backend.softmax(x, axis, stage.output(dims, ulps(50), layout));
        });
        add_kernel_case(
            "log_softmax " + name,
            [=](Backend& backend, Stage& stage) {
              const Tensor x = stage.input(dims, layout, spread);
              backend.log_softmax(x, axis, stage.output(dims, ulps(2, 10)));
            },
            false, size > 1);
      }
    }
  }
  add_kernel_case("softmax in place", [](Backend& backend, Stage& stage) {
    const Tensor x = stage.input({5, 37});
    backend.softmax(x, 1, stage.in_place(x, ulps(12)));
  });
}

TEST(indices_out_of_range_are_refused) {
  const std::shared_ptr<Backend> backend = open_backend("cpu");
  float x[6] = {}, y[6] = {};
  int32_t index[2] = {3, -1};
  const Tensor whole = dense_tensor(x, DType::f32, {2, 3}), part = dense_tensor(y, DType::f32, {2, 1});
  const Tensor at = dense_tensor(index, DType::i32, {2, 1});
  CHECK_THROWS(ErrorCode::invalid_argument, backend->take_along_axis(whole, at, 1, part));
  CHECK_THROWS(ErrorCode::invalid_argument, backend->put_along_axis(part, at, 1, whole));
  const int64_t beyond[] = {3};
  CHECK_THROWS(ErrorCode::invalid_argument, backend->gather(whole, beyond, 1, part));
  CHECK_THROWS(ErrorCode::invalid_argument, backend->scatter_add(part, beyond, 1, whole));
}

SWEEP(pool_cases) {
  struct Row {
    int64_t n, c, h, w, oh, ow, kh, kw, sh, sw, dh, dw, top, left;
  };
  const Row rows[] = {
      {2, 3, 8, 6, 4, 3, 2, 2, 2, 2, 1, 1, 0, 0},  {3, 17, 7, 9, 4, 5, 3, 3, 2, 2, 1, 1, 1, 1},
      {2, 70, 6, 5, 4, 3, 3, 3, 1, 1, 1, 1, 0, 0}, {1, 5, 9, 10, 5, 3, 2, 3, 2, 3, 2, 2, 1, 2},
      {2, 4, 7, 7, 4, 4, 2, 2, 2, 2, 1, 1, 0, 0},  // a last window that sticks out
      {2, 33, 5, 7, 1, 1, 5, 7, 1, 1, 1, 1, 0, 0}, {0, 3, 4, 4, 2, 2, 2, 2, 2, 2, 1, 1, 0, 0},
  };
  for (const Row& r : rows) {
    ConvShape s;
    s.n = r.n, s.c = s.o = r.c, s.h = r.h, s.w = r.w, s.oh = r.oh, s.ow = r.ow, s.kh = r.kh, s.kw = r.kw;
    s.stride_h = r.sh, s.stride_w = r.sw, s.dilation_h = r.dh, s.dilation_w = r.dw, s.pad_top = r.top,
    s.pad_left = r.left;
    const Dims x_dims{s.n, s.c, s.h, s.w}, y_dims{s.n, s.c, s.oh, s.ow};
    const Dims y_strides = strides_of(y_dims, last);
    const std::string name = to_string(x_dims) + " to " + to_string(y_dims) + " by " + to_string({s.kh, s.kw});
    const bool telling = s.n > 0;
    // Few distinct values: ties show which maximum is the first.
    const InputValues ties{0, 0, {0.5, -1, 2, 0.25, 2, 1, -3, 2, 1.5, 0.75, -0.5, 1.25, 2}};
    add_kernel_case(
        "max_pool " + name,
        [=](Backend& backend, Stage& stage) {
          const Tensor x = stage.input(x_dims, last, ties);
          backend.max_pool(s, x, stage.output(y_dims, {}, last), stage.index_output(y_dims, y_strides));
        },
        false, telling);
    // Any position will do for the index, as long as it lies in the image.
    add_kernel_case(
        "pool_gather " + name,
        [=](Backend& backend, Stage& stage) {
          const Tensor x = stage.input(x_dims, last), index = stage.index_output(y_dims, y_strides);
          backend.max_pool(s, x, stage.output(y_dims, {}, last), index);
          const Tensor x_dot = stage.input(x_dims, last);
          backend.pool_gather(s, x_dot, index, stage.output(y_dims, {}, last));
        },
        false, telling);
    add_kernel_case(
        "pool_scatter " + name,
        [=](Backend& backend, Stage& stage) {
          // Positions as max_pool gives them: a backend may look for each in the windows that it can be the maximum of.
          const Tensor x = stage.input(x_dims, last), index = stage.index_output(y_dims, y_strides);
          backend.max_pool(s, x, stage.output(y_dims, {}, last), index);
          const Tensor y_bar = stage.input(y_dims, last);
          // Not by magnitudes: those have their maxima elsewhere.
          const double windows = static_cast<double>(s.kh * s.kw);
          backend.pool_scatter(s, y_bar, index, stage.output(x_dims, ulps(windows, windows), last));
        },
        false, false);
    const double window = static_cast<double>(s.kh * s.kw);
    for (const bool count_pads : {false, true}) {
      add_kernel_case(
          "average_pool " + name + (count_pads ? " with pads" : ""),
          [=](Backend& backend, Stage& stage) {
            const Tensor x = stage.input(x_dims, last);
            backend.average_pool(s, count_pads, x, stage.output(y_dims, sum_of(window), last));
          },
          false, telling);
      add_kernel_case(
          "average_pool_gradient " + name + (count_pads ? " with pads" : ""),
          [=](Backend& backend, Stage& stage) {
            const Tensor y_bar = stage.input(y_dims, last);
            backend.average_pool_gradient(s, count_pads, y_bar, stage.output(x_dims, sum_of(window), last));
          },
          false, false);
    }
  }
}

TEST(max_pool_passes_nan_and_leaves_windows_of_pads_out) {
  const std::shared_ptr<Backend> backend = open_backend("cpu");
  ConvShape s;
  s.n = 1, s.c = s.o = 1, s.h = 2, s.w = 2, s.oh = 2, s.ow = 1, s.kh = 1, s.kw = 2, s.stride_h = 2;
  float x[] = {1, NAN, NAN, -INFINITY}, y[2];
  int32_t index[2];
  const Tensor xt = dense_tensor(x, DType::f32, {1, 1, 2, 2}), yt = dense_tensor(y, DType::f32, {1, 1, 2, 1});
  const Tensor it = dense_tensor(index, DType::i32, {1, 1, 2, 1});
  backend->max_pool(s, xt, yt, it);  // the second window lies below the image
  CHECK(std::isnan(y[0]) && index[0] == 1);
  CHECK(y[1] == -INFINITY && index[1] == -1);
  backend->pool_gather(s, xt, it, yt);
  CHECK(std::isnan(y[0]) && y[1] == 0);
  y[0] = 3, y[1] = 4;
  backend->pool_scatter(s, yt, it, xt);
  CHECK(x[0] == 0 && x[1] == 3 && x[2] == 0 && x[3] == 0);
}

SWEEP(statistics_cases) {
  for (const Dims& dims : {Dims{7, 5}, Dims{300, 33}, Dims{4, 70, 9, 8}, Dims{40, 3, 33, 31}, Dims{1, 2, 5, 6}}) {
    add_kernel_case("batch_norm_statistics " + to_string(dims), [=](Backend& backend, Stage& stage) {
      const Tensor x = stage.input(dims, dims.size() == 4 ? last : first, {99, 101, {}});
      const double rows = static_cast<double>(element_count(dims) / dims[1]);
      const bool narrow = stage.dtype() == DType::f32;
      // In float64 the mean's own error of rows eps 100 enters the variance squared, the rounding of x - mean does not.
      backend.batch_norm_statistics(x, 1e-5, stage.output({dims[1]}, ulps(narrow ? 1.01 : rows)),
                                    stage.output({dims[1]}, ulps(narrow ? 1.01 : 200 + 2 * rows)));
    });
  }
}

SWEEP(vector_cases) {
  for (const int64_t n : {0, 1, 7, 1000, 4096, 20011}) {
    const std::string name = std::to_string(n);
    const double terms = static_cast<double>(n) + 2;
    for (const DType x_type : {DType::f32, DType::f64}) {
      for (const DType y_type : {DType::f32, DType::f64}) {
        const std::string types =
            std::string(x_type == DType::f32 ? " f32" : " f64") + (y_type == DType::f32 ? " f32" : " f64");
        add_kernel_case(
            "dot " + name + types,
            [=](Backend& backend, Stage& stage) {
              const Tensor x = stage.input_of(x_type, {n}), y = stage.input_of(y_type, {n});
              stage.number(backend.dot(x, y), sum_of(terms));
            },
            false, n > 0);
        add_kernel_case(
            "axpy " + name + types,
            [=](Backend& backend, Stage& stage) {
              const Tensor x = stage.input_of(x_type, {n});
              backend.axpy(stage.magnitudes() ? 0.3 : -0.3, x, stage.changed_of(y_type, {n}, sum_of(3)));
            },
            false, n > 0);
      }
    }
    add_kernel_case(
        "scale " + name, [=](Backend& backend, Stage& stage) { backend.scale(-0.3, stage.changed({n}, {1}, ulps(3))); },
        false, n > 0);
    for (const bool nesterov : {false, true}) {
      for (const double momentum : {0.0, 0.9}) {
        add_kernel_case(
            "sgd_step " + name + (nesterov ? " nesterov" : "") + (momentum != 0 ? " momentum" : ""),
            [=](Backend& backend, Stage& stage) {
              const double sign = stage.magnitudes() ? -1 : 1;
              const Tensor g = stage.input({n}), w = stage.changed({n}, {1}, sum_of(6));
              const Tensor v = momentum != 0 ? stage.changed({n}, {1}, sum_of(6)) : Tensor{};
              backend.sgd_step({sign * 0.1, momentum, 0.01, nesterov}, g, v, w);
            },
            false, n > 0);
      }
    }
  }
}

SWEEP(gather_rows_cases) {
  struct Row {
    int64_t channels, height, width, pad, out_h, out_w;
    bool u8;
    Layout layout;
  };
  const Row rows[] = {
      {3, 8, 7, 0, 8, 7, true, last},  {3, 8, 7, 2, 8, 7, true, last},    {1, 5, 6, 1, 5, 6, false, first},
      {4, 6, 5, 1, 4, 7, true, first}, {13, 1, 1, 0, 0, 0, false, first}, {13, 1, 1, 0, 0, 0, true, first},
  };
  for (const Row& r : rows) {
    const std::string name = to_string({r.channels, r.height, r.width}) + " pad " + std::to_string(r.pad) +
                             (r.u8 ? " uint8" : " float32") + (r.out_h ? "" : " vector");
    add_kernel_case("gather_rows " + name, [=](Backend& backend, Stage& stage) {
      const int64_t size = r.channels * r.height * r.width, count = 9;
      std::vector<uint8_t> bytes;
      std::vector<float> floats;
      for (int64_t i = 0; i < count * size; ++i) {
        bytes.push_back(static_cast<uint8_t>(i * 37 % 251 + 1));
        floats.push_back(static_cast<float>(i * 37 % 251) / 64 - 1.99f);
      }
      std::vector<float> scale, shift;
      for (int64_t c = 0; c < r.channels; ++c) {
        scale.push_back(0.125f + 0.0625f * static_cast<float>(c));
        shift.push_back(-0.3f * static_cast<float>(c + 1));
      }
      const auto pad = static_cast<int32_t>(r.pad);
      const std::vector<GatherRow> picks = {{4, pad, pad, false},
                                            {0, 0, pad, true},
                                            {8, pad, 2 * pad, false},
                                            {4, 2 * pad, 0, true},
                                            {7, pad, pad, true}};
      const auto n = static_cast<int64_t>(picks.size());
      const Dims dims = r.out_h ? Dims{n, r.channels, r.out_h, r.out_w} : Dims{n, r.channels};
      const GatherSpec spec{r.channels, r.height, r.width, r.pad, scale, shift};
      const void* store = r.u8 ? static_cast<const void*>(bytes.data()) : floats.data();
      backend.gather_rows(spec, picks, store, r.u8, stage.output(dims, ulps(3, 40), r.layout));
    });
  }
}
