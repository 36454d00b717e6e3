// Failures on their way to JavaScript: what a C++ exception becomes there.
#pragma once

#include <napi.h>

#include <string>
#include <utility>

namespace palimpsest {

struct Failure {
  std::string code, message;
};

// Of the exception being handled; to be called in a catch block.
Failure current_failure() noexcept;

// An error of the class that lib/native.ts gave, or a plain Error with a `code`.
Napi::Error to_error(Napi::Env env, const Failure& failure);

// Runs a callback's body; any exception becomes a JavaScript one.
template <class Body>
auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return std::forward<Body>(body)();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_error(env, current_failure());
  }
}

}  // namespace palimpsest
