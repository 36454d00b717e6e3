// Runs test graphs through Program: the leaves are given by value, the results come back in float64.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "graph/program.h"
#include "tested_device.h"

namespace palimpsest::check {

using Values = std::vector<double>;

// What the leaves of a graph hold, row-major, by index.
struct Point {
  std::vector<Values> parameters, tangents, constants;
  std::array<Values, input_slots> inputs;
};

// Memory of the backend that holds a copy of `values` in the given type, or `count` NaNs.
class DeviceValues {
 public:
  DeviceValues(const Values& values, DType dtype);
  DeviceValues(size_t count, DType dtype);
  ~DeviceValues();
  DeviceValues(const DeviceValues&) = delete;
  DeviceValues& operator=(const DeviceValues&) = delete;

  void* data() const { return data_; }
  Values read() const;

 private:
  size_t count_;
  DType dtype_;
  void* data_;
};

// A network that has these parameters and constants and computes nothing: what a Program needs beside a graph.
Network holder(const std::vector<Dims>& parameters, const std::vector<Dims>& constants = {});

// A parameter-space vector as the layout places it; parts that are absent are zero.
Values flatten(const ParameterLayout& layout, const std::vector<Values>& parts);
std::vector<Values> split(const ParameterLayout& layout, const Values& flat);

// Bindings of a point with the memory behind them.
class Bound {
 public:
  Bound(const Network& network, const Point& point, DType dtype);
  Bindings bindings;

 private:
  std::vector<std::unique_ptr<DeviceValues>> memory_;
};

// The values of `outputs` at a point; empty where an output is none.
std::vector<Values> run_graph(const Graph& graph, const Network& network, const std::vector<ValueId>& outputs,
                              const Point& point, DType dtype = DType::f64);

// Small vector arithmetic.
double inner(const Values& a, const Values& b);
double norm(const Values& a);
Values moved(const Values& x, double step, const Values& direction);  // x + step direction
Values difference(const Values& a, const Values& b, double factor);   // (a - b) factor
double distance(const Values& actual, const Values& expected);        // relative; 0 where both are zero

}  // namespace palimpsest::check
