// A tiny network with data of its own, and its products run in any precision and at any point.
#include "laboratory.h"

#include <algorithm>
#include <cmath>

#include "samples.h"

namespace palimpsest::check {

Laboratory::Laboratory(const NetworkDescription& description, const std::string& name, int64_t examples)
    : network_(description), examples_(examples), classes_(static_cast<size_t>(description.classes)) {
  const uint64_t seed = seed_of(name);
  for (const ParameterEntry& entry : network_.layout().entries()) {
    const double width =
        std::sqrt(3.0 / std::max<double>(1, static_cast<double>(entry.size) / static_cast<double>(entry.dims[0])));
    point_.parameters.push_back(draw({entry.dims, -width, width}, seed + point_.parameters.size()));
  }
  Dims x = {examples};
  x.insert(x.end(), description.input_shape.begin(), description.input_shape.end());
  point_.inputs[input_x] = draw({x, -1.5, 1.5}, seed + 100);
  const auto rows = static_cast<size_t>(examples);
  point_.inputs[input_weight] = draw({{examples}, 0.2, 0.6}, seed + 101);
  point_.inputs[input_cotangent] = draw_normal(rows * classes_, seed + 102);
  point_.inputs[input_target] = draw({{examples, description.classes}, 0.05, 1}, seed + 103);
  for (size_t b = 0; b < rows; ++b) {  // rows of targets sum to one
    double sum = 0;
    for (size_t k = 0; k < classes_; ++k) sum += target(b, k);
    for (size_t k = 0; k < classes_; ++k) point_.inputs[input_target][b * classes_ + k] /= sum;
  }
}

Values Laboratory::join(const std::vector<Values>& parts) const {
  Values flat;
  for (const Values& part : parts) flat.insert(flat.end(), part.begin(), part.end());
  return flat;
}

std::vector<Values> Laboratory::parts(const Values& flat) const {
  std::vector<Values> list;
  auto from = flat.begin();
  for (const ParameterEntry& entry : network_.layout().entries()) {
    list.emplace_back(from, from + entry.size);
    from += entry.size;
  }
  return list;
}

Values Laboratory::direction(uint64_t seed) const { return draw_normal(size(), seed); }

ProductOptions Laboratory::options(Quantity quantity, Loss loss) const {
  ProductOptions options;
  options.quantity = quantity;
  options.loss = loss;
  options.batch = examples_;
  return options;
}

Result Laboratory::run(const ProductOptions& options, const Point& at, DType dtype) const {
  const ProgramDescription description = product_graph(network_, options);
  Bound bound(network_, at, dtype);
  std::vector<std::unique_ptr<DeviceValues>> rows;
  for (const GraphOutput& output : description.outputs) {
    if (output.parameter >= 0) continue;
    const auto count = static_cast<size_t>(element_count(description.graph.dims(output.value)));
    rows.push_back(std::make_unique<DeviceValues>(count, dtype));
    bound.bindings.rows.push_back(rows.back()->data());
  }
  DeviceValues sums(static_cast<size_t>(network_.layout().length()), dtype);
  bound.bindings.sums = sums.data();
  Program program(description, network_, tested_backend(), dtype);
  if (options.holdable) program.hold(bound.bindings), program.apply(bound.bindings);
  else program.run(bound.bindings);
  Result result;
  for (const auto& row : rows) result.rows.push_back(row->read());
  result.sums = join(split(network_.layout(), sums.read()));
  return result;
}

Point Laboratory::along(const Values& v) const {
  Point at = point_;
  at.tangents = parts(v);
  return at;
}

Point Laboratory::at_parameters(const Values& p) const {
  Point at = point_;
  at.parameters = parts(p);
  return at;
}

Point Laboratory::with_cotangent(Values u) const {
  Point at = point_;
  at.inputs[input_cotangent] = std::move(u);
  return at;
}

}  // namespace palimpsest::check
