// The one exception of the native side: a stable code and a message that says what was expected and what came.
#pragma once

#include <stdexcept>
#include <string>

namespace palimpsest {

enum class ErrorCode {
  invalid_argument,
  shape,
  unsupported_operator,
  unsupported,
  model_format,
  device,
  out_of_memory,
  not_converged,
  disposed,
  aborted,
  internal,
};

// The code as TypeScript sees it, e.g. "ERR_SHAPE".
const char* error_code_name(ErrorCode code);

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace palimpsest
