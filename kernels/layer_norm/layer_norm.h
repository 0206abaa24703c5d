// LayerNorm (Ba, Kiros and Hinton 2016), fused with the residual addition that precedes it in a decoder
// block, as rms_norm is.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/values.h"

namespace infalign::kernels {

/// residual += branch (skipped when branch is null); inverse_deviation[t] = 1 / sqrt(variance_c of
/// residual[t, c] + epsilon); out[t, c] = (residual[t, c] - mean_c) * inverse_deviation[t] * weight[c] +
/// bias[c]. residual, branch, out [T, C]; weight, bias [C]; inverse_deviation [T].
void add_layer_norm_forward(const Stream& on, std::int64_t T, std::int64_t C, float epsilon, float* residual,
                            const float* branch, const float* weight, const float* bias, Values out,
                            float* inverse_deviation);

/// The gradient through the norm: d_residual += ..., d_weight += ..., d_bias += ... (sums over t in a fixed
/// order that does not depend on the number of threads; both null where they are frozen). residual is the sum
/// that was normalised.
void layer_norm_backward(const Stream& on, std::int64_t T, std::int64_t C, ConstValues d_out,
                         const float* residual, const float* weight, const float* inverse_deviation,
                         float* d_residual, float* d_weight, float* d_bias);

}  // namespace infalign::kernels
