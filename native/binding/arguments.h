// Arguments: JavaScript values checked and turned into C++ ones, with one message shape.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/tensor.h"

namespace palimpsest {

// A value in a few words: "'abc'", "3", "Float32Array(4)", "undefined".
std::string describe(const Napi::Value& value);

// "expected <what> for '<name>', got <value>"
[[noreturn]] void refuse(const std::string& what, const std::string& name, const Napi::Value& value,
                         ErrorCode code = ErrorCode::invalid_argument);

double finite_number(const Napi::Value& value, const std::string& name);
int64_t whole_number(const Napi::Value& value, const std::string& name, int64_t least, int64_t most);
bool boolean(const Napi::Value& value, const std::string& name);
std::string string(const Napi::Value& value, const std::string& name);
Napi::Object object(const Napi::Value& value, const std::string& name);
Napi::Array array(const Napi::Value& value, const std::string& name);
std::vector<int64_t> whole_numbers(const Napi::Value& value, const std::string& name);
DType float_type(const Napi::Value& value, const std::string& name);  // 'float32' or 'float64'
const char* float_type_name(DType dtype);

// A typed array's memory at this moment; any call into JavaScript may take it away.
struct TypedView {
  napi_typedarray_type type;
  size_t length = 0;
  const void* data = nullptr;
};
bool is_typed_array(const Napi::Value& value);
TypedView typed_view(const Napi::Value& value, const std::string& name, const std::string& what = "a typed array");

// Exactly `count` finite values of a Float32Array or Float64Array into `target`, converted to `dtype`. What is checked
// is the copy: memory that others share may change at any time.
void copy_floats(const Napi::Value& value, const std::string& name, int64_t count, DType dtype, void* target);
// Exactly `count` numbers of a Float32Array for a constant of a network: infinities mask and pad, NaN is refused.
std::vector<float> copy_constant(const Napi::Value& value, const std::string& name, int64_t count);
// Exactly `count` values of an Int32Array; any length where count is negative.
std::vector<int32_t> copy_integers(const Napi::Value& value, const std::string& name, int64_t count);
// Exactly `count` values of a Uint8Array.
std::vector<uint8_t> copy_bytes(const Napi::Value& value, const std::string& name, int64_t count);

// A new Float32Array or Float64Array with these values.
Napi::Value float_array(Napi::Env env, DType dtype, const void* data, size_t count);
Napi::Value shape_array(Napi::Env env, const Dims& dims);

}  // namespace palimpsest
