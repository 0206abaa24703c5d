// AdamW (Loshchilov and Hutter 2019), PyTorch's form: decoupled decay first, bias correction, epsilon outside
// the root.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace infalign::kernels {

struct AdamWStep {
  float learning_rate = 0;
  float beta1 = 0.9f;
  float beta2 = 0.999f;
  float epsilon = 1e-8f;
  float weight_decay = 0;
  float gradient_scale = 1;  // multiplies the gradient first (clipping)
  std::int64_t step = 1;     // counts from 1
};

/// Updates n parameters and their moments in one pass; each element on its own, so any split gives the same
/// bits.
void adamw(const Stream& on, const AdamWStep& hyper, std::int64_t n, const float* gradient, float* parameter,
           float* first_moment, float* second_moment);

}  // namespace infalign::kernels
