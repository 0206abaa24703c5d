// Whole powers by repeated squaring: the procedures raise ranks to N - 1 in every inner loop of the room, and
// std::pow with a floating exponent is several times slower.
#pragma once

#include <cstdint>

namespace infalign::alignment {

/// base^exponent for exponent >= 0; 0^0 = 1.
inline double whole_power(double base, std::int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1, base *= base) {
    if (exponent & 1) result *= base;
  }
  return result;
}

}  // namespace infalign::alignment
