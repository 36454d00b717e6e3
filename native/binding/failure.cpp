// C++ exceptions by code, and the JavaScript errors made of them.
#include "binding/failure.h"

#include <new>

#include "binding/environment.h"
#include "core/error.h"

namespace palimpsest {

Failure current_failure() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return {error_code_name(error.code()), error.what()};
  } catch (const std::bad_alloc&) {
    return {error_code_name(ErrorCode::out_of_memory), "expected enough memory, got none from the system"};
  } catch (const std::exception& error) {
    return {error_code_name(ErrorCode::internal), error.what()};
  } catch (...) {
    return {error_code_name(ErrorCode::internal), "expected an exception with a message, got another"};
  }
}

Napi::Error to_error(Napi::Env env, const Failure& failure) {
  Environment& environment = Environment::of(env);
  const Napi::String code = Napi::String::New(env, failure.code), message = Napi::String::New(env, failure.message);
  if (!environment.error_class().IsEmpty()) {
    return Napi::Error(env, environment.error_class().New({code, message}));
  }
  Napi::Error error = Napi::Error::New(env, failure.message);
  error.Set("code", code);
  return error;
}

}  // namespace palimpsest
