// What vectors' steps are made of: values staged from typed arrays, and compositions of kernels.
#pragma once

#include <napi.h>

#include <vector>

#include "backend/backend.h"
#include "binding/device_vector.h"

namespace palimpsest {

// One parameter's values, copied and converted.
StagedRange stage_range(const Napi::Value& value, const ParameterEntry& parameter, DType dtype);
// A flat vector's values by parameter, without the padding.
std::vector<StagedRange> stage_all(const Napi::Value& value, const ParameterLayout& layout, DType dtype);

// { rate, momentum?, weightDecay?, nesterov? }
SgdStep read_sgd_step(const Napi::Value& value);

// y += alpha a * b, element by element.
void add_product(double alpha, const DeviceVector& a, const DeviceVector& b, const DeviceVector& y);

}  // namespace palimpsest
