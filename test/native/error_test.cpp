// Errors carry their code, and codes have the names that TypeScript knows.
#include <string>

#include "check.h"

using palimpsest::Error;
using palimpsest::ErrorCode;

TEST(error_keeps_code_and_message) {
  try {
    throw Error(ErrorCode::shape, "expected 3 dimensions for 'x', got 2");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::shape);
    CHECK(std::string(error.what()) == "expected 3 dimensions for 'x', got 2");
  }
}

TEST(error_codes_have_distinct_names) {
  CHECK(std::string(error_code_name(ErrorCode::invalid_argument)) == "ERR_INVALID_ARGUMENT");
  CHECK(std::string(error_code_name(ErrorCode::internal)) == "ERR_INTERNAL");
  CHECK(std::string(error_code_name(ErrorCode::shape)) != error_code_name(ErrorCode::device));
}
