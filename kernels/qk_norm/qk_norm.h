// RMSNorm on every head of the queries and of the keys, before they are rotated (Henry et al. 2020; Qwen3,
// 2025). One weight serves all heads of the queries, another all heads of the keys.
#pragma once

#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/device.h"
#include "kernels/values.h"

namespace infalign::kernels {

/// out [T, shape.row()] = the rows of q-k-v `in`, each head of q and k times its inverse_rms = 1 / sqrt(its
/// mean square + epsilon) and its weight, the values as they are. q_weight, k_weight [head_dim]; inverse_rms
/// [T, heads + kv_heads].
void qk_norm_forward(const Stream& on, const AttentionShape& shape, std::int64_t T, float epsilon,
                     ConstValues in, const float* q_weight, const float* k_weight, Values out,
                     float* inverse_rms);

/// d_qkv [T, shape.row()], the gradient of `out`, becomes that of `in`; d_q_weight and d_k_weight are added
/// to (sums over t in a fixed order that does not depend on the number of threads; both null where the
/// weights are frozen).
void qk_norm_backward(const Stream& on, const AttentionShape& shape, std::int64_t T, ConstValues in,
                      const float* q_weight, const float* k_weight, const float* inverse_rms, Values d_qkv,
                      float* d_q_weight, float* d_k_weight);

}  // namespace infalign::kernels
