// Unary rows and their derivatives by Taylor arithmetic of second order.
#pragma once

#include "ops/operators.h"

namespace palimpsest::check {

bool is_unary_row(Op op);
// f(x), f'(x) or f''(x); at a kink the derivative from the side that the engine documents.
double unary_derivative(Op op, double alpha, double beta, double x, int order);

}  // namespace palimpsest::check
