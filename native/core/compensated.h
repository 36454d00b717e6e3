// Matrix products in twice the working precision, for residuals that must not drown in their own rounding.
#pragma once

#include <cstdint>

namespace palimpsest {

// high + low = A B, A [rows, inner], B [inner, columns], all row-major; compensated products and sums after
// Ogita, Rump and Oishi 2005 (Dot2). Entry by entry |high + low - A B| <= 8 inner^2 2^-106 |A| |B|, and high is A B as
// plain summation gives it. About 20 times the operations of the plain product; the same bits on any threads.
void multiply_compensated(const double* a, int64_t rows, int64_t inner, const double* b, int64_t columns, double* high,
                          double* low);

}  // namespace palimpsest
