// Runs test graphs through Program.
#include "graph_run.h"

#include <cmath>
#include <limits>

#include "check.h"

namespace palimpsest::check {

DeviceValues::DeviceValues(const Values& values, DType dtype)
    : count_(values.size()),
      dtype_(dtype),
      data_(tested_backend()->allocate(std::max<size_t>(count_, 1) * size_of(dtype))) {
  if (dtype == DType::f64) {
    tested_backend()->copy_in(data_, values.data(), count_ * sizeof(double));
  } else {
    const std::vector<float> narrow(values.begin(), values.end());
    tested_backend()->copy_in(data_, narrow.data(), count_ * sizeof(float));
  }
}

DeviceValues::DeviceValues(size_t count, DType dtype)
    : DeviceValues(Values(count, std::numeric_limits<double>::quiet_NaN()), dtype) {}

DeviceValues::~DeviceValues() { tested_backend()->release(data_); }

Values DeviceValues::read() const {
  Values values(count_);
  if (dtype_ == DType::f64) {
    tested_backend()->copy_out(values.data(), data_, count_ * sizeof(double));
  } else {
    std::vector<float> narrow(count_);
    tested_backend()->copy_out(narrow.data(), data_, count_ * sizeof(float));
    values.assign(narrow.begin(), narrow.end());
  }
  return values;
}

Network holder(const std::vector<Dims>& parameters, const std::vector<Dims>& constants) {
  NetworkDescription description;
  description.input_shape = {1};
  description.classes = 1;
  description.leaves.push_back({Source::input, 0, "x", {}, {}});
  int32_t id = 1;
  for (const Dims& dims : parameters) {
    description.leaves.push_back({Source::parameter, id, "p" + std::to_string(id), dims, {}});
    ++id;
  }
  for (const Dims& dims : constants) {
    const std::vector<float> zeros(static_cast<size_t>(element_count(dims)));
    description.leaves.push_back({Source::constant, id, "c" + std::to_string(id), dims, zeros});
    ++id;
  }
  return Network(std::move(description));
}

Values flatten(const ParameterLayout& layout, const std::vector<Values>& parts) {
  Values flat(static_cast<size_t>(layout.length()), 0.0);
  for (size_t i = 0; i < parts.size(); ++i) {
    std::copy(parts[i].begin(), parts[i].end(), flat.begin() + layout.entries().at(i).offset);
  }
  return flat;
}

std::vector<Values> split(const ParameterLayout& layout, const Values& flat) {
  std::vector<Values> parts;
  for (const ParameterEntry& entry : layout.entries()) {
    parts.emplace_back(flat.begin() + entry.offset, flat.begin() + entry.offset + entry.size);
  }
  return parts;
}

Bound::Bound(const Network& network, const Point& point, DType dtype) {
  const auto place = [&](const Values& values) {
    memory_.push_back(std::make_unique<DeviceValues>(values, dtype));
    return memory_.back()->data();
  };
  bindings.parameters = place(flatten(network.layout(), point.parameters));
  if (!point.tangents.empty()) bindings.tangents = place(flatten(network.layout(), point.tangents));
  for (size_t slot = 0; slot < input_slots; ++slot) {
    if (!point.inputs[slot].empty()) bindings.inputs[slot] = place(point.inputs[slot]);
  }
}

std::vector<Values> run_graph(const Graph& graph, const Network& network, const std::vector<ValueId>& outputs,
                              const Point& point, DType dtype) {
  ProgramDescription description{graph, {}, false};
  std::vector<std::unique_ptr<DeviceValues>> rows;
  Bound bound(network, point, dtype);
  for (ValueId id : outputs) {
    if (id == none) continue;
    description.outputs.push_back({id, -1});
    rows.push_back(std::make_unique<DeviceValues>(static_cast<size_t>(element_count(graph.dims(id))), dtype));
    bound.bindings.rows.push_back(rows.back()->data());
  }
  Program program(std::move(description), network, tested_backend(), dtype);
  program.run(bound.bindings);
  std::vector<Values> values;
  size_t next = 0;
  for (ValueId id : outputs) values.push_back(id == none ? Values() : rows[next++]->read());
  return values;
}

double inner(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b.at(i);
  return sum;
}

double norm(const Values& a) { return std::sqrt(inner(a, a)); }

Values moved(const Values& x, double step, const Values& direction) {
  Values y = x;
  for (size_t i = 0; i < direction.size(); ++i) y.at(i) += step * direction[i];
  return y;
}

Values difference(const Values& a, const Values& b, double factor) {
  Values d = a;
  for (size_t i = 0; i < a.size(); ++i) d[i] = (a[i] - b.at(i)) * factor;
  return d;
}

double distance(const Values& actual, const Values& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  const double apart = norm(difference(actual, expected, 1));
  return apart == 0 ? 0 : apart / norm(expected);
}

}  // namespace palimpsest::check
