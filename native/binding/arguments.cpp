// Checks and conversions of arguments.
#include "binding/arguments.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "core/finite.h"

namespace palimpsest {

namespace {

const char* type_name(napi_typedarray_type type) {
  switch (type) {
    case napi_int8_array: return "Int8Array";
    case napi_uint8_array: return "Uint8Array";
    case napi_uint8_clamped_array: return "Uint8ClampedArray";
    case napi_int16_array: return "Int16Array";
    case napi_uint16_array: return "Uint16Array";
    case napi_int32_array: return "Int32Array";
    case napi_uint32_array: return "Uint32Array";
    case napi_float32_array: return "Float32Array";
    case napi_float64_array: return "Float64Array";
    case napi_bigint64_array: return "BigInt64Array";
    case napi_biguint64_array: return "BigUint64Array";
    default: return "typed array";
  }
}

[[noreturn]] void refuse_length(int64_t count, const std::string& name, const TypedView& view) {
  throw Error(ErrorCode::shape,
              "expected " + std::to_string(count) + " values for '" + name + "', got " + std::to_string(view.length));
}

[[noreturn]] void refuse_value(const std::string& name, double value, int64_t at) {
  throw Error(ErrorCode::invalid_argument, "expected finite values within range for '" + name + "', got " +
                                               std::to_string(value) + " at " + std::to_string(at));
}

// This is the one part of a call that its caller's thread waits for.
template <class From, class To>
void convert(const void* data, int64_t count, const std::string& name, void* target) {
  const From* from = static_cast<const From*>(data);
  To* to = static_cast<To*>(target);
  if constexpr (std::is_same_v<From, To>) {
    const int64_t finite = copy_finite(from, count, to);
    if (finite < count) refuse_value(name, static_cast<double>(from[finite]), finite);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i]);
    if (all_finite(to, count)) return;
    const To* bad = std::find_if(to, to + count, [](To value) { return !std::isfinite(value); });
    refuse_value(name, static_cast<double>(*bad), bad - to);
  }
}

}  // namespace

std::string describe(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined: return "undefined";
    case napi_null: return "null";
    case napi_boolean: return value.As<Napi::Boolean>() ? "true" : "false";
    case napi_number: return value.ToString().Utf8Value();
    case napi_string: return "'" + value.As<Napi::String>().Utf8Value().substr(0, 60) + "'";
    case napi_symbol: return "a symbol";
    case napi_bigint: return "a bigint";
    case napi_function: return "a function";
    default: break;
  }
  if (is_typed_array(value)) {
    const TypedView view = typed_view(value, "");
    return std::string(type_name(view.type)) + "(" + std::to_string(view.length) + ")";
  }
  return value.IsArray() ? "an array" : "an object";
}

void refuse(const std::string& what, const std::string& name, const Napi::Value& value, ErrorCode code) {
  throw Error(code, "expected " + what + " for '" + name + "', got " + describe(value));
}

double finite_number(const Napi::Value& value, const std::string& name) {
  if (!value.IsNumber() || !std::isfinite(value.As<Napi::Number>().DoubleValue())) {
    refuse("a finite number", name, value);
  }
  return value.As<Napi::Number>().DoubleValue();
}

int64_t whole_number(const Napi::Value& value, const std::string& name, int64_t least, int64_t most) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  // Within 2^53 every whole number has a double of its own.
  constexpr double exact = 9007199254740991.0;
  const bool whole = std::trunc(number) == number && std::abs(number) <= exact;
  if (!whole || static_cast<int64_t>(number) < least || static_cast<int64_t>(number) > most) {
    refuse("a whole number from " + std::to_string(least) + " to " + std::to_string(most), name, value);
  }
  return static_cast<int64_t>(number);
}

bool boolean(const Napi::Value& value, const std::string& name) {
  if (!value.IsBoolean()) refuse("true or false", name, value);
  return value.As<Napi::Boolean>();
}

std::string string(const Napi::Value& value, const std::string& name) {
  if (!value.IsString()) refuse("a string", name, value);
  return value.As<Napi::String>().Utf8Value();
}

Napi::Object object(const Napi::Value& value, const std::string& name) {
  if (!value.IsObject()) refuse("an object", name, value);
  return value.As<Napi::Object>();
}

Napi::Array array(const Napi::Value& value, const std::string& name) {
  if (!value.IsArray()) refuse("an array", name, value);
  return value.As<Napi::Array>();
}

std::vector<int64_t> whole_numbers(const Napi::Value& value, const std::string& name) {
  constexpr int64_t exact = 9007199254740991;
  const Napi::Array list = array(value, name);
  std::vector<int64_t> numbers;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Napi::Value item = list[i];
    numbers.push_back(whole_number(item, name + "[" + std::to_string(i) + "]", -exact, exact));
  }
  return numbers;
}

DType float_type(const Napi::Value& value, const std::string& name) {
  const std::string text = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (text == "float32") return DType::f32;
  if (text != "float64") refuse("'float32' or 'float64'", name, value);
  return DType::f64;
}

const char* float_type_name(DType dtype) { return dtype == DType::f64 ? "float64" : "float32"; }

bool is_typed_array(const Napi::Value& value) {
  bool typed = false;
  return napi_is_typedarray(value.Env(), value, &typed) == napi_ok && typed;
}

TypedView typed_view(const Napi::Value& value, const std::string& name, const std::string& what) {
  if (!is_typed_array(value)) refuse(what, name, value);
  TypedView view{};
  void* data = nullptr;
  if (napi_get_typedarray_info(value.Env(), value, &view.type, &view.length, &data, nullptr, nullptr) != napi_ok) {
    throw Napi::Error::New(value.Env());
  }
  view.data = data;
  return view;
}

void copy_floats(const Napi::Value& value, const std::string& name, int64_t count, DType dtype, void* target) {
  const char* what = "a Float32Array or Float64Array";
  const TypedView view = typed_view(value, name, what);
  const bool wide = view.type == napi_float64_array;
  if (!wide && view.type != napi_float32_array) refuse(what, name, value);
  if (view.length != static_cast<size_t>(count)) refuse_length(count, name, view);
  if (dtype == DType::f64) {
    (wide ? convert<double, double> : convert<float, double>)(view.data, count, name, target);
  } else {
    (wide ? convert<double, float> : convert<float, float>)(view.data, count, name, target);
  }
}

std::vector<float> copy_constant(const Napi::Value& value, const std::string& name, int64_t count) {
  const TypedView view = typed_view(value, name, "a Float32Array");
  if (view.type != napi_float32_array) refuse("a Float32Array", name, value);
  if (view.length != static_cast<size_t>(count)) refuse_length(count, name, view);
  const float* data = static_cast<const float*>(view.data);
  std::vector<float> copy(data, data + view.length);
  const auto bad = std::find_if(copy.begin(), copy.end(), [](float x) { return std::isnan(x); });
  if (bad != copy.end()) refuse("numbers", name, value);
  return copy;
}

std::vector<int32_t> copy_integers(const Napi::Value& value, const std::string& name, int64_t count) {
  const TypedView view = typed_view(value, name, "an Int32Array");
  if (view.type != napi_int32_array) refuse("an Int32Array", name, value);
  if (count >= 0 && view.length != static_cast<size_t>(count)) refuse_length(count, name, view);
  const int32_t* data = static_cast<const int32_t*>(view.data);
  return std::vector<int32_t>(data, data + view.length);
}

std::vector<uint8_t> copy_bytes(const Napi::Value& value, const std::string& name, int64_t count) {
  const TypedView view = typed_view(value, name, "a Uint8Array");
  if (view.type != napi_uint8_array) refuse("a Uint8Array", name, value);
  if (view.length != static_cast<size_t>(count)) refuse_length(count, name, view);
  const uint8_t* data = static_cast<const uint8_t*>(view.data);
  return std::vector<uint8_t>(data, data + view.length);
}

Napi::Value float_array(Napi::Env env, DType dtype, const void* data, size_t count) {
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, count * size_of(dtype));
  if (count > 0) std::memcpy(buffer.Data(), data, count * size_of(dtype));
  if (dtype == DType::f64) return Napi::Float64Array::New(env, count, buffer, 0);
  return Napi::Float32Array::New(env, count, buffer, 0);
}

Napi::Value shape_array(Napi::Env env, const Dims& dims) {
  const Napi::Array shape = Napi::Array::New(env, dims.size());
  for (size_t i = 0; i < dims.size(); ++i) {
    shape.Set(static_cast<uint32_t>(i), Napi::Number::New(env, static_cast<double>(dims[i])));
  }
  return shape;
}

}  // namespace palimpsest
