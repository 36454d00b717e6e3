// Handle: a JavaScript object that shares a native one, with a type tag, dispose() and memory that V8 knows of.
#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "binding/arguments.h"
#include "binding/environment.h"
#include "binding/failure.h"

namespace palimpsest {

// Self has: `static constexpr napi_type_tag tag`, `static constexpr const char* name`. Held: what it shares; queued
// steps share it too, so that it outlives dispose() until they are over.
template <class Self, class Held>
class Handle : public Napi::ObjectWrap<Self> {
 public:
  using Method = Napi::Value (Self::*)(const Napi::CallbackInfo&);

  // The handle behind a value; throws ERR_INVALID_ARGUMENT where it is something else.
  static Self& from(const Napi::Value& value, const std::string& argument) {
    bool tagged = false;
    if (value.IsObject()) napi_check_object_type_tag(value.Env(), value, &Self::tag, &tagged);
    if (!tagged) refuse("a native " + std::string(Self::name), argument, value);
    return *Self::Unwrap(value.As<Napi::Object>());
  }

  // Throws ERR_DISPOSED after dispose(), which a getter of a call's arguments may come to.
  std::shared_ptr<Held> held() const {
    if (!held_)
      throw Error(ErrorCode::disposed, "expected a " + std::string(Self::name) + " in use, got one that was disposed");
    return held_;
  }

  void Finalize(Napi::Env env) override { let_go(env); }

 protected:
  explicit Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Self>(info) {
    if (napi_type_tag_object(info.Env(), info.This(), &Self::tag) != napi_ok) throw Napi::Error::New(info.Env());
  }

  void hold(Napi::Env env, std::shared_ptr<Held> held, int64_t bytes) {
    held_ = std::move(held);
    account(env, bytes);
  }

  // Tells V8 that the object stands for so many bytes.
  void account(Napi::Env env, int64_t bytes) {
    if (bytes != accounted_) Napi::MemoryManagement::AdjustExternalMemory(env, bytes - accounted_);
    accounted_ = bytes;
  }

  // Methods and getters whose exceptions of any kind become JavaScript errors.
  template <Method method>
  static Napi::ClassPropertyDescriptor<Self> method_named(const char* called) {
    return Self::InstanceMethod(called, static_cast<Method>(&Handle::template call<method>), napi_default_method);
  }
  template <Method method>
  static Napi::ClassPropertyDescriptor<Self> getter_named(const char* called) {
    return Self::InstanceAccessor(called, static_cast<Method>(&Handle::template call<method>), nullptr,
                                  napi_enumerable);
  }

  // The class with what every handle has.
  static Napi::Function define(Napi::Env env, std::vector<Napi::ClassPropertyDescriptor<Self>> properties) {
    properties.push_back(Self::InstanceMethod("dispose", static_cast<Method>(&Handle::dispose), napi_default_method));
    properties.push_back(
        Self::InstanceAccessor("disposed", static_cast<Method>(&Handle::disposed), nullptr, napi_enumerable));
    return Self::DefineClass(env, Self::name, properties);
  }

 private:
  template <Method method>
  Napi::Value call(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return (static_cast<Self*>(this)->*method)(info); });
  }

  Napi::Value dispose(const Napi::CallbackInfo& info) {
    let_go(info.Env());
    return info.Env().Undefined();
  }

  Napi::Value disposed(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), !held_); }

  void let_go(Napi::Env env) {
    held_.reset();
    account(env, 0);
  }

  std::shared_ptr<Held> held_;
  int64_t accounted_ = 0;
};

}  // namespace palimpsest
