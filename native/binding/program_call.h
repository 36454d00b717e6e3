// The options of createProgram and of a program's calls, read from JavaScript.
#pragma once

#include <napi.h>

#include "binding/device_program.h"
#include "binding/vector_handle.h"

namespace palimpsest {

struct ProgramRequest {
  ProductOptions options;
  DType dtype = DType::f32;
  Precision precision = Precision::float32;
};

ProgramRequest read_program_request(const Napi::Value& value, const ParameterLayout& layout);
const char* quantity_name(Quantity quantity);

// A vector of the program's network, device and type.
std::shared_ptr<DeviceVector> vector_of_call(const Napi::Value& value, const char* name, const DeviceProgram& program);

// A batch-sized input's `rows` rows into `target`, the rest cleared.
void copy_rows(const Napi::Value& value, const char* name, InputSlot slot, const DeviceProgram& program, int64_t rows,
               std::vector<std::byte>& target);

// rows, inputs (an array, or rows to gather) and parameters: the batch of a linearization.
std::shared_ptr<DeviceVector> read_batch(const Napi::Value& value, const DeviceProgram& program, Staging& staging);

// 'crossEntropy' or 'squaredError'
Loss loss_named(const Napi::Value& value);

// What a call says; typed arrays are copied into the staging.
struct ProgramCall {
  VectorsOfCall vectors;
  VectorHandle* sums = nullptr;  // where the call writes one
};

// `inputs`: rows, inputs, targets, weights, cotangents, parameters. `results`: tangents, sums, accumulate, outputs.
ProgramCall read_program_call(const Napi::Value& value, const DeviceProgram& program, bool inputs, bool results,
                              Staging& staging);

}  // namespace palimpsest
