// Soft-capping (Gemma 2, 2024): scores and logits are squeezed smoothly into (-cap, cap).
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace infalign::kernels {

/// x[i] = cap * tanh(x[i] / cap), in place; x [n], cap > 0.
void softcap_forward(const Stream& on, std::int64_t n, float cap, float* x);

/// d[i] *= 1 - (capped[i] / cap)^2: from the gradient of the capped values [n] that of the values before.
void softcap_backward(const Stream& on, std::int64_t n, float cap, const float* capped, float* d);

}  // namespace infalign::kernels
