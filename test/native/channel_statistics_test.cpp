// Channel statistics by class: the kernel sweep's cases, and sums that no order of the rows changes.
#include <cmath>

#include "kernel_case.h"

using namespace palimpsest;
using namespace palimpsest::check;

namespace {

__extension__ typedef __int128 Exact;

constexpr Layout first = Layout::row_major, last = Layout::channels_last;

// The sums whose three parts a call left on the device.
std::vector<double> added_parts(Backend& backend, const Tensor& parts) {
  const size_t count = static_cast<size_t>(element_count(parts.dims)), sums = count / 3;
  std::vector<double> wide(count);
  if (parts.dtype == DType::f64) {
    backend.copy_out(wide.data(), parts.data, count * sizeof(double));
  } else {
    std::vector<float> narrow(count);
    backend.copy_out(narrow.data(), parts.data, count * sizeof(float));
    wide.assign(narrow.begin(), narrow.end());
  }
  std::vector<double> added;
  for (size_t i = 0; i < sums; ++i) added.push_back(wide[i] + (wide[sums + i] + wide[2 * sums + i]));
  return added;
}

}  // namespace

SWEEP(channel_statistics_cases) {
  struct Case {
    Dims x;
    int64_t classes;
  };
  const Case cases[] = {{{5, 7, 3, 4}, 2},    {{9, 33, 5, 7}, 3},  {{4, 70, 9, 8}, 5},
                        {{40, 3, 33, 31}, 7}, {{3, 135, 1, 1}, 2}, {{6, 16, 11, 5}, 4}};
  for (const Case& c : cases) {
    add_kernel_case(
        "channel_statistics " + to_string(c.x) + " of " + std::to_string(c.classes) + " classes",
        [=](Backend& backend, Stage& stage) {
          const Tensor x = stage.input(c.x, last, {-0.5, 1.5, {}});
          // Rows of one class, of several and of none.
          const Tensor labels = stage.input({c.x[0], c.classes}, first, {0, 1, {1, 0, 0, 1, 0, 0, 0}});
          const Dims dims{3, c.classes, c.x[1]};
          // The oracle adds the positions up one by one. The second and third part are what the rounding of the
          // first leaves.
          const double terms = static_cast<double>(element_count(c.x) / c.x[1]) + 8;
          const Tensor parts = stage.output(dims, ulps(terms, 1));
          backend.channel_statistics(x, labels, parts);
          for (const double sum : added_parts(backend, parts)) stage.number(sum, ulps(terms), stage.dtype());
        },
        false, false);
  }
}

// Rows in any order and cut anywhere: the same sums to the last bit.
TEST(channel_statistics_do_not_depend_on_the_order_of_rows) {
  const std::shared_ptr<Backend> backend = open_backend("cpu");
  constexpr int64_t n = 50, c = 21, positions = 6, classes = 3;
  std::vector<float> x(n * c * positions), labels(n * classes, 0.0f);
  uint64_t state = 7;
  for (float& v : x) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    v = std::ldexp(static_cast<float>(state >> 40), -24 - static_cast<int>(state >> 33 & 31));  // 2^-32 to 1
  }
  for (int64_t i = 0; i < n; ++i) labels[static_cast<size_t>(i * classes + i % classes)] = 1;
  const auto sums_of = [&](const std::vector<int64_t>& order) {
    std::vector<float> rows, marks, parts(3 * classes * c);
    for (const int64_t i : order) {
      rows.insert(rows.end(), x.begin() + i * c * positions, x.begin() + (i + 1) * c * positions);
      marks.insert(marks.end(), labels.begin() + i * classes, labels.begin() + (i + 1) * classes);
    }
    const auto count = static_cast<int64_t>(order.size());
    backend->channel_statistics(dense_tensor(rows.data(), DType::f32, {count, c, 2, 3}, Layout::channels_last),
                                dense_tensor(marks.data(), DType::f32, {count, classes}),
                                dense_tensor(parts.data(), DType::f32, {3, classes, c}));
    // As whole numbers of 2^-56.
    std::vector<Exact> exact(static_cast<size_t>(classes * c));
    for (size_t i = 0; i < parts.size(); ++i) {
      const double units = std::ldexp(static_cast<double>(parts[i]), 56);
      CHECK(units == std::floor(units));
      exact[i % exact.size()] += static_cast<Exact>(units);
    }
    return exact;
  };
  std::vector<int64_t> order(n), reversed, odd, even;
  for (int64_t i = 0; i < n; ++i) order[static_cast<size_t>(i)] = i, (i % 2 ? odd : even).push_back(i);
  reversed.assign(order.rbegin(), order.rend());
  const auto whole = sums_of(order), back = sums_of(reversed), one = sums_of(odd), two = sums_of(even);
  CHECK(whole == back);
  for (size_t i = 0; i < whole.size(); ++i) {
    CHECK(whole[i] == one[i] + two[i]);
    CHECK(whole[i] > 0);
  }
  CHECK(one != two);
}

TEST(channel_statistics_keep_nan_and_refuse_other_shapes) {
  const std::shared_ptr<Backend> backend = open_backend("cpu");
  float x[] = {NAN, -1, 2, 3}, labels[] = {1}, parts[6];
  const Tensor marks = dense_tensor(labels, DType::f32, {1, 1}), sums = dense_tensor(parts, DType::f32, {3, 1, 2});
  backend->channel_statistics(dense_tensor(x, DType::f32, {1, 2, 2, 1}, Layout::channels_last), marks, sums);
  CHECK(std::isnan(parts[0]) && parts[1] == 1.5f);
  CHECK_THROWS(ErrorCode::shape, backend->channel_statistics(dense_tensor(x, DType::f32, {2, 2}), marks, sums));
  CHECK_THROWS(ErrorCode::shape, backend->channel_statistics(dense_tensor(x, DType::f32, {2, 2, 1, 1}), marks, sums));
  CHECK_THROWS(ErrorCode::shape, backend->channel_statistics(dense_tensor(x, DType::f32, {1, 4, 1, 1}), marks, sums));
  CHECK_THROWS(ErrorCode::shape, backend->channel_statistics(dense_tensor(x, DType::f32, {1, 2, 2, 0}), marks, sums));
}
