// The logistic function beside the exponential: branch-free, so that loops which call it become vector code.
#pragma once

#include "kernels/exponential.h"

namespace infalign::kernels {

/// 1 / (1 + exp(-x)); NaN stays NaN.
[[gnu::always_inline]] constexpr float sigmoid(float x) {
  const float negated = x < -88.0f ? 88.0f : -x;
  return 1.0f / (1.0f + exponential(negated));
}

}  // namespace infalign::kernels
