// Vectors of parameters: dense, float64 sums in a fixed order.
#pragma once

#include "backend/backend.h"

namespace palimpsest::cpu {

double dot(const Tensor& x, const Tensor& y);
void axpy(double alpha, const Tensor& x, const Tensor& y);
void scale(double alpha, const Tensor& y);
void sgd_step(const SgdStep& step, const Tensor& gradient, const Tensor& velocity, const Tensor& w);

}  // namespace palimpsest::cpu
