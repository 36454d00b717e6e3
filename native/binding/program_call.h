// The options of createProgram and of a program's calls, read from JavaScript.
#pragma once

#include <napi.h>

#include "binding/device_program.h"
#include "binding/vector_handle.h"

namespace palimpsest {

struct ProgramRequest {
  ProductOptions options;
  DType dtype = DType::f32;
};

ProgramRequest read_program_request(const Napi::Value& value, const ParameterLayout& layout);
const char* quantity_name(Quantity quantity);

// What a call says; typed arrays are copied into the staging.
struct ProgramCall {
  VectorsOfCall vectors;
  VectorHandle* sums = nullptr;  // where the call writes one
};

// `inputs`: rows, inputs, targets, weights, cotangents, parameters. `results`: tangents, sums, accumulate, outputs.
ProgramCall read_program_call(const Napi::Value& value, const DeviceProgram& program, bool inputs, bool results,
                              Staging& staging);

}  // namespace palimpsest
