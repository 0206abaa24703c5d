// RMSNorm (Zhang and Sennrich 2019), fused with the residual addition that precedes it in a decoder block.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/values.h"

namespace infalign::kernels {

/// residual += branch (skipped when branch is null); inverse_rms[t] = 1 / sqrt(mean_c residual[t, c]^2 +
/// epsilon); out[t, c] = residual[t, c] * inverse_rms[t] * weight[c]. residual, branch, out [T, C]; weight
/// [C]; inverse_rms [T].
void add_rms_norm_forward(const Stream& on, std::int64_t T, std::int64_t C, float epsilon, float* residual,
                          const float* branch, const float* weight, Values out, float* inverse_rms);

/// The gradient through the norm: d_residual += d(norm)/d(residual)^T d_out, d_weight += ... (sums over t in
/// a fixed order that does not depend on the number of threads; null where the weight is frozen). residual is
/// the sum that was normalised.
void rms_norm_backward(const Stream& on, std::int64_t T, std::int64_t C, ConstValues d_out,
                       const float* residual, const float* weight, const float* inverse_rms,
                       float* d_residual, float* d_weight);

}  // namespace infalign::kernels
