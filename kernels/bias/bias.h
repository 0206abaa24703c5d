// The bias of a linear layer, apart from its product.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/values.h"

namespace infalign::kernels {

/// x[t] += bias; x [T, n], bias [n].
void bias_forward(const Stream& on, std::int64_t T, std::int64_t n, const float* bias, Values x);

/// d_bias += the sum of d_x [T, n] over t, in ascending t (deterministic); d_bias [n].
void bias_backward(const Stream& on, std::int64_t T, std::int64_t n, ConstValues d_x, float* d_bias);

}  // namespace infalign::kernels
