// Adding and subtracting rows with their digests and the bound on accumulated rounding.
#include "unlearn/ridge_statistics.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "core/dense.h"
#include "core/error.h"
#include "core/parallel.h"

namespace palimpsest {
namespace {

constexpr int64_t kPanel = 64;
constexpr double kUnit = 0x1p-53;
constexpr double kCover = 1 + 0x1p-30;  // for the rounding of the bounds themselves

// Chained mixing of 64-bit words (the finaliser of SplitMix64, Steele, Lea and Flood 2014).
uint64_t mix(uint64_t hash, double value) {
  uint64_t x = (hash + 0x9e3779b97f4a7c15) ^ std::bit_cast<uint64_t>(value);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// value + rest += share, with an error of at most 2^-105 (|value| before + |value| after).
void add_share(double share, double& value, double& rest) {
  const double sum = value + share;
  const double part = sum - value;
  const double low = rest + ((value - (sum - part)) + (share - part));
  value = sum + low;
  const double kept = value - sum;
  rest = (sum - (value - kept)) + (low - kept);
}

double gamma(int64_t terms) {
  const double units = static_cast<double>(terms) * kUnit;
  return units / (1 - units);
}

void require_whole_rows(size_t size, int64_t width, const char* what) {
  if (size % static_cast<size_t>(width) == 0) return;
  throw Error(ErrorCode::shape, std::string("expected rows of ") + std::to_string(width) + " " + what + ", got " +
                                    std::to_string(size) + " numbers");
}

}  // namespace

struct RidgeStatistics::Rows {
  int64_t count;
  std::vector<double> phi, r0;
  std::vector<uint64_t> digests;
  bool exact_products;  // of two entries, in float64
};

RidgeStatistics::RidgeStatistics(int64_t features, int64_t outputs) : features_(features), outputs_(outputs) {
  if (features < 1 || outputs < 1 || features > 1 << 20 || outputs > 1 << 20) {
    throw Error(ErrorCode::invalid_argument, "expected 1 to 2^20 features and outputs, got " +
                                                 std::to_string(features) + " and " + std::to_string(outputs));
  }
  gram_.assign(static_cast<size_t>(features * features), 0.0);
  cross_.assign(static_cast<size_t>(features * outputs), 0.0);
  gram_rest_ = gram_;
  cross_rest_ = cross_;
}

template <class T>
RidgeStatistics::Rows RidgeStatistics::widen(std::span<const T> phi, std::span<const T> r0) const {
  require_whole_rows(phi.size(), features_, "features");
  require_whole_rows(r0.size(), outputs_, "residuals");
  Rows rows{static_cast<int64_t>(phi.size()) / features_,
            {phi.begin(), phi.end()},
            {r0.begin(), r0.end()},
            {},
            sizeof(T) == sizeof(float)};
  if (rows.count != static_cast<int64_t>(r0.size()) / outputs_) {
    throw Error(ErrorCode::shape, "expected as many rows of residuals as of features (" + std::to_string(rows.count) +
                                      "), got " + std::to_string(static_cast<int64_t>(r0.size()) / outputs_));
  }
  for (int64_t i = 0; i < rows.count; ++i) {
    uint64_t digest = 0;
    bool finite = true;
    const auto take = [&](double value) {
      digest = mix(digest, value);
      finite = finite && std::isfinite(value);
    };
    std::for_each_n(rows.phi.begin() + i * features_, features_, take);
    std::for_each_n(rows.r0.begin() + i * outputs_, outputs_, take);
    if (!finite) {
      throw Error(ErrorCode::invalid_argument,
                  "expected finite features and residuals, got others in row " + std::to_string(i));
    }
    rows.digests.push_back(digest);
  }
  return rows;
}

template <class T>
void RidgeStatistics::add(std::span<const T> phi, std::span<const T> r0) {
  const Rows rows = widen(phi, r0);
  for (const uint64_t digest : rows.digests) ++present_[digest];
  accumulate(rows, 1.0);
}

template <class T>
void RidgeStatistics::subtract(std::span<const T> phi, std::span<const T> r0) {
  const Rows rows = widen(phi, r0);
  for (size_t i = 0; i < rows.digests.size(); ++i) {
    const auto found = present_.find(rows.digests[i]);
    if (found != present_.end()) {
      if (--found->second == 0) present_.erase(found);
      continue;
    }
    for (size_t back = 0; back < i; ++back) ++present_[rows.digests[back]];
    throw Error(ErrorCode::invalid_argument,
                "expected rows that were added, bit for bit, and not yet subtracted, got another one in row " +
                    std::to_string(i));
  }
  accumulate(rows, -1.0);
}

void RidgeStatistics::accumulate(const Rows& rows, double sign) {
  const int64_t block = std::clamp<int64_t>(features_ / 16, 1, 32);
  std::vector<double> gram_share(gram_.size()), cross_share(cross_.size());
  // A panel of rows of A and M takes all blocks one after another, so the threads meet once.
  const double work = 0.5 * static_cast<double>(rows.phi.size()) * static_cast<double>(features_);
  parallel_for((features_ + kPanel - 1) / kPanel, work, [&](int64_t panel) {
    const int64_t begin = panel * kPanel;
    const int64_t end = std::min(features_, begin + kPanel);
    for (int64_t i = 0; i < rows.count; i += block) {
      const int64_t count = std::min(block, rows.count - i);
      const MatrixView<double> phi = row_major(rows.phi.data() + i * features_, count, features_);
      const MatrixView<double> r0 = row_major(rows.r0.data() + i * outputs_, count, outputs_);
      add_gram_panel(phi, sign, begin, end, gram_share.data() + begin * features_);
      add_cross_panel(phi, r0, sign, begin, end, cross_share.data() + begin * outputs_);
    }
  });
  for (int64_t i = 0; i < rows.count; i += block) {
    bound_errors(rows.phi.data() + i * features_, rows.r0.data() + i * outputs_, std::min(block, rows.count - i),
                 rows.exact_products);
  }
  rows_ += sign > 0 ? rows.count : -rows.count;
  if (rows_ > 0) return mirror_lower(gram_.data(), features_);
  for (std::vector<double>* sums : {&gram_, &gram_rest_, &cross_, &cross_rest_}) {
    std::fill(sums->begin(), sums->end(), 0.0);
  }
  gram_error_ = cross_error_ = squares_ = products_ = 0;
}

void RidgeStatistics::add_gram_panel(const MatrixView<double>& phi, double sign, int64_t begin, int64_t end,
                                     double* share) {
  std::fill_n(share, (end - begin) * features_, 0.0);
  const MatrixView<double> rows{phi.data + begin, end - begin, phi.rows, 1, features_};
  multiply_add(1.0, rows, {phi.data, phi.rows, end, features_, 1}, share, features_);
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      const size_t at = static_cast<size_t>(i * features_ + j);
      add_share(sign * share[(i - begin) * features_ + j], gram_[at], gram_rest_[at]);
    }
  }
}

void RidgeStatistics::add_cross_panel(const MatrixView<double>& phi, const MatrixView<double>& r0, double sign,
                                      int64_t begin, int64_t end, double* share) {
  std::fill_n(share, (end - begin) * outputs_, 0.0);
  const MatrixView<double> rows{phi.data + begin, end - begin, phi.rows, 1, features_};
  multiply_add(1.0, rows, r0, share, outputs_);
  for (int64_t i = begin * outputs_; i < end * outputs_; ++i) {
    const size_t at = static_cast<size_t>(i);
    add_share(sign * share[i - begin * outputs_], cross_[at], cross_rest_[at]);
  }
}

void RidgeStatistics::bound_errors(const double* phi, const double* r0, int64_t count, bool exact_products) {
  double squares = 0, products = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double length = norm({phi + i * features_, static_cast<size_t>(features_)});
    squares += length * length;
    products += length * norm({r0 + i * outputs_, static_cast<size_t>(outputs_)});
  }
  squares_ += squares;
  products_ += products;
  const double sum_error = gamma(exact_products ? count - 1 : count);
  gram_error_ += kCover * (sum_error * squares + 8 * kUnit * kUnit * squares_);
  cross_error_ += kCover * (sum_error * products + 8 * kUnit * kUnit * products_);
}

double RidgeStatistics::gram_drift() const { return kCover * (gram_error_ + kUnit * norm(gram_)); }

double RidgeStatistics::cross_drift() const { return kCover * (cross_error_ + kUnit * norm(cross_)); }

template void RidgeStatistics::add(std::span<const float>, std::span<const float>);
template void RidgeStatistics::add(std::span<const double>, std::span<const double>);
template void RidgeStatistics::subtract(std::span<const float>, std::span<const float>);
template void RidgeStatistics::subtract(std::span<const double>, std::span<const double>);

}  // namespace palimpsest
