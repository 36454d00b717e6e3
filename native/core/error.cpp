// Names of the error codes.
#include "core/error.h"

namespace palimpsest {

const char* error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument: return "ERR_INVALID_ARGUMENT";
    case ErrorCode::shape: return "ERR_SHAPE";
    case ErrorCode::unsupported_operator: return "ERR_UNSUPPORTED_OPERATOR";
    case ErrorCode::unsupported: return "ERR_UNSUPPORTED";
    case ErrorCode::model_format: return "ERR_MODEL_FORMAT";
    case ErrorCode::device: return "ERR_DEVICE";
    case ErrorCode::out_of_memory: return "ERR_OUT_OF_MEMORY";
    case ErrorCode::not_converged: return "ERR_NOT_CONVERGED";
    case ErrorCode::disposed: return "ERR_DISPOSED";
    case ErrorCode::aborted: return "ERR_ABORTED";
    case ErrorCode::internal: return "ERR_INTERNAL";
  }
  return "ERR_INTERNAL";
}

}  // namespace palimpsest
