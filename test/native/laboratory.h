// A tiny network with data of its own, and its products run in any precision and at any point.
#pragma once

#include <vector>

#include "curvature/products.h"
#include "graph_run.h"

namespace palimpsest::check {

using Matrix = std::vector<Values>;  // rows

// What a program of one quantity gave.
struct Result {
  std::vector<Values> rows;
  Values sums;  // one after the other, without padding
};

class Laboratory {
 public:
  Laboratory(const NetworkDescription& description, const std::string& name, int64_t examples);

  const Network& network() const { return network_; }
  Point& point() { return point_; }
  const Point& point() const { return point_; }
  int64_t examples() const { return examples_; }
  size_t classes() const { return classes_; }
  double weight(size_t b) const { return point_.inputs[input_weight][b]; }
  double target(size_t b, size_t k) const { return point_.inputs[input_target][b * classes_ + k]; }

  // Parameters, one after the other without padding, and apart again.
  Values flat() const { return join(point_.parameters); }
  Values join(const std::vector<Values>& parts) const;
  std::vector<Values> parts(const Values& flat) const;
  size_t size() const { return static_cast<size_t>(network_.layout().parameter_count()); }
  Values direction(uint64_t seed) const;

  ProductOptions options(Quantity quantity, Loss loss = Loss::cross_entropy) const;

  Result run(const ProductOptions& options, const Point& at, DType dtype = DType::f64) const;
  Result run(Quantity quantity, Loss loss = Loss::cross_entropy) const { return run(options(quantity, loss), point_); }
  Result run(Quantity quantity, const Values& v, Loss loss = Loss::cross_entropy) const {
    return run(options(quantity, loss), along(v));
  }

  Point along(const Values& v) const;
  Point at_parameters(const Values& p) const;
  Point with_cotangent(Values u) const;

  // (f(p + h v) - f(p - h v)) / 2h
  template <class F>
  Values slope(const Values& v, const F& f, double h = 1e-5) const {
    return difference(f(at_parameters(moved(flat(), h, v))), f(at_parameters(moved(flat(), -h, v))), 0.5 / h);
  }

 private:
  Network network_;
  const int64_t examples_;
  const size_t classes_;
  Point point_;
};

}  // namespace palimpsest::check
