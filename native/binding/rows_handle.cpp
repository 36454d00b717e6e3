// Rows' methods; all are synchronous copies.
#include "binding/rows_handle.h"

#include <cstring>
#include <limits>

namespace palimpsest {

namespace {

constexpr int64_t most = std::numeric_limits<int32_t>::max();

napi_typedarray_type array_type(RowType type) { return type == RowType::u8 ? napi_uint8_array : napi_float32_array; }
const char* type_name(RowType type) { return type == RowType::u8 ? "uint8" : "float32"; }

}  // namespace

void RowsHandle::init(Napi::Env env, Napi::Object exports) {
  exports.Set(name, define(env, {
                                    getter_named<&RowsHandle::type>("type"),
                                    getter_named<&RowsHandle::width>("width"),
                                    getter_named<&RowsHandle::size>("size"),
                                    getter_named<&RowsHandle::bytes>("bytes"),
                                    method_named<&RowsHandle::append>("append"),
                                    method_named<&RowsHandle::seal>("seal"),
                                    method_named<&RowsHandle::row>("row"),
                                    method_named<&RowsHandle::copy_row>("copyRow"),
                                }));
}

RowsHandle::RowsHandle(const Napi::CallbackInfo& info) : Handle(info) {
  guarded(info.Env(), [&] {
    const std::string wanted = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "";
    if (wanted != "uint8" && wanted != "float32") refuse("'uint8' or 'float32'", "type", info[0]);
    const int64_t expected = info[2].IsUndefined() ? 0 : whole_number(info[2], "expectedRows", 0, most);
    auto store = std::make_shared<RowStore>(wanted == "uint8" ? RowType::u8 : RowType::f32,
                                            whole_number(info[1], "width", 1, most), expected);
    const int64_t reserved = static_cast<int64_t>(store->bytes());
    hold(info.Env(), std::move(store), reserved);
  });
}

Napi::Value RowsHandle::type(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), type_name(held()->type()));
}

Napi::Value RowsHandle::width(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(held()->width()));
}

Napi::Value RowsHandle::size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(held()->size()));
}

Napi::Value RowsHandle::bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(held()->bytes()));
}

Napi::Value RowsHandle::append(const Napi::CallbackInfo& info) {
  RowStore& store = *held();
  const char* wanted = store.type() == RowType::u8 ? "a Uint8Array" : "a Float32Array";
  const TypedView view = typed_view(info[0], "values", wanted);
  if (view.type != array_type(store.type())) refuse(wanted, "values", info[0]);
  store.append(view.data, static_cast<int64_t>(view.length));
  account(info.Env(), static_cast<int64_t>(store.bytes()));
  return info.Env().Undefined();
}

Napi::Value RowsHandle::seal(const Napi::CallbackInfo& info) {
  held()->seal();
  account(info.Env(), static_cast<int64_t>(held()->bytes()));
  return info.Env().Undefined();
}

const std::byte* RowsHandle::row_at(const Napi::Value& index) const {
  const RowStore& store = *held();
  if (!store.sealed()) throw Error(ErrorCode::invalid_argument, "expected seal() before rows are read");
  return store.row(whole_number(index, "index", 0, store.size() - 1));
}

Napi::Value RowsHandle::row(const Napi::CallbackInfo& info) {
  const std::byte* row = row_at(info[0]);
  const RowStore& store = *held();
  const size_t count = static_cast<size_t>(store.width());
  if (store.type() == RowType::f32) return float_array(info.Env(), DType::f32, row, count);
  Napi::Uint8Array values = Napi::Uint8Array::New(info.Env(), count);
  std::memcpy(values.Data(), row, count);
  return values;
}

Napi::Value RowsHandle::copy_row(const Napi::CallbackInfo& info) {
  const std::byte* row = row_at(info[0]);
  const size_t bytes = held()->row_bytes();
  const TypedView view = typed_view(info[1], "target", "a Uint8Array");
  if (view.type != napi_uint8_array || view.length < bytes) {
    refuse("a Uint8Array of at least " + std::to_string(bytes) + " bytes", "target", info[1]);
  }
  std::memcpy(const_cast<void*>(view.data), row, bytes);
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

}  // namespace palimpsest
