// Rows: a store of a dataset's rows, appended to, then sealed and read.
#pragma once

#include <napi.h>

#include "binding/handle.h"
#include "binding/row_store.h"

namespace palimpsest {

class RowsHandle : public Handle<RowsHandle, RowStore> {
 public:
  static constexpr napi_type_tag tag = {0x70616c696d707365, 0x0000000000000002};
  static constexpr const char* name = "Rows";
  static void init(Napi::Env env, Napi::Object exports);

  explicit RowsHandle(const Napi::CallbackInfo& info);

 private:
  Napi::Value type(const Napi::CallbackInfo& info);
  Napi::Value width(const Napi::CallbackInfo& info);
  Napi::Value size(const Napi::CallbackInfo& info);
  Napi::Value bytes(const Napi::CallbackInfo& info);
  Napi::Value append(const Napi::CallbackInfo& info);
  Napi::Value seal(const Napi::CallbackInfo& info);
  Napi::Value row(const Napi::CallbackInfo& info);
  Napi::Value copy_row(const Napi::CallbackInfo& info);

  const std::byte* row_at(const Napi::Value& index) const;
};

}  // namespace palimpsest
