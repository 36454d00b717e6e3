// Sufficient statistics of the last linear layer: sums over rows that can be added to and subtracted from.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/dense.h"

namespace palimpsest {

// A = sum phi phi^T [f, f] and M = sum phi r0^T [f, K] over the rows present; phi [f] are a row's features (with a
// constant 1 where the layer has a bias), r0 [K] = f_core(x) - y its residual at the core. Blocks of rows are summed in
// float64, their sums in twice that, so that what deletion leaves behind is far below one rounding of A.
//
// What is subtracted must be, bit for bit, what was added: features computed again differ in their last bits, which no
// later residual would show. Every row's digest is kept until the row is subtracted, and checked.
// A copy is independent: change a copy and swap where a failure must leave the sums as they were (memory may run out).
class RidgeStatistics {
 public:
  RidgeStatistics(int64_t features, int64_t outputs);

  // phi [k, f] and r0 [k, K] row by row, float32 or float64, finite. Both throw ERR_SHAPE or ERR_INVALID_ARGUMENT with
  // nothing changed. Blocks have f/16 rows, 1 to 32, so a row at a time and all at once differ in rounding.
  template <class T>
  void add(std::span<const T> phi, std::span<const T> r0);
  // Throws ERR_INVALID_ARGUMENT where a row is not among those present. With the last row all sums are zero again.
  template <class T>
  void subtract(std::span<const T> phi, std::span<const T> r0);

  int64_t rows() const { return rows_; }
  int64_t features() const { return features_; }
  int64_t outputs() const { return outputs_; }
  const std::vector<double>& gram() const { return gram_; }    // A, both triangles, rounded to float64
  const std::vector<double>& cross() const { return cross_; }  // M

  // Bounds on |gram() - A|_F and |cross() - M|_F, A and M the exact sums over the rows present. Running part: a block
  // of k rows adds gamma_k sum |phi|^2 (k - 1 where the rows are float32: their products are exact) with gamma_k = k
  // 2^-53/(1 - k 2^-53), and the like with |phi| |r0|; on top the one rounding to float64.
  double gram_drift() const;
  double cross_drift() const;

 private:
  struct Rows;  // as float64, with their digests
  template <class T>
  Rows widen(std::span<const T> phi, std::span<const T> r0) const;
  void accumulate(const Rows& rows, double sign);
  // Rows [begin, end) of A += sign phi^T phi and of M += sign phi^T r0 for one block phi [k, f], r0 [k, K]; share is
  // room for as many rows.
  void add_gram_panel(const MatrixView<double>& phi, double sign, int64_t begin, int64_t end, double* share);
  void add_cross_panel(const MatrixView<double>& phi, const MatrixView<double>& r0, double sign, int64_t begin,
                       int64_t end, double* share);
  void bound_errors(const double* phi, const double* r0, int64_t count, bool exact_products);

  int64_t features_, outputs_;
  int64_t rows_ = 0;
  std::vector<double> gram_, cross_;
  std::vector<double> gram_rest_, cross_rest_;  // what gram_ (lower triangle) and cross_ lack, below their last bit
  double gram_error_ = 0, cross_error_ = 0;     // bounds on what value and rest together lack
  double squares_ = 0, products_ = 0;           // sum |phi|^2 >= |A|_F, sum |phi| |r0| >= |M|_F, of all rows ever seen
  std::unordered_map<uint64_t, int64_t> present_;  // digest -> rows that have it
};

}  // namespace palimpsest
