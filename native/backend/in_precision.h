// A precision that ends: what computes in TF32 leaves the device as it found it.
#pragma once

#include "backend/backend.h"

namespace palimpsest {

// Products in a precision for as long as one lives, in float32 after it.
class InPrecision {
 public:
  InPrecision(Backend& backend, Precision precision) : backend_(backend) { backend_.use_precision(precision); }
  ~InPrecision() { backend_.use_precision(Precision::float32); }
  InPrecision(const InPrecision&) = delete;
  InPrecision& operator=(const InPrecision&) = delete;

 private:
  Backend& backend_;
};

}  // namespace palimpsest
