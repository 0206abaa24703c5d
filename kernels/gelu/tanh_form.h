// GELU's tanh form with its derivative, for the CPU's and the GPU's kernels alike.
#pragma once

#include "kernels/exponential.h"

namespace infalign::kernels {

/// A value and its derivative.
struct GeluPoint {
  float value, slope;
};

/// x sigmoid(u), u = 2 sqrt(2 / pi) (x + 0.044715 x^3), which is x / 2 (1 + tanh(u / 2)).
[[gnu::always_inline]] constexpr GeluPoint gelu_tanh(float x) {
  constexpr float kTwiceRoot = 1.59576912f;  // 2 sqrt(2 / pi)
  constexpr float kCubic = 0.044715f;
  const float square = x * x;
  const float u = kTwiceRoot * (x + kCubic * x * square);
  const float e = exponential(u < -88.0f ? 88.0f : -u);
  const float open = 1.0f / (1.0f + e);  // sigmoid(u), of which e open^2 is the slope
  const float inner = kTwiceRoot * (1.0f + 3.0f * kCubic * square);
  return {x * open, open + x * (e * open * open) * inner};
}

}  // namespace infalign::kernels
