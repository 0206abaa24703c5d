// Token embedding: rows of a table picked by token id, and the gradient's way back.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/values.h"

namespace infalign::kernels {

/// out[t] = table[tokens[t]]; tokens [T], table [V, C], out [T, C]. A table may be in bfloat16 on a CPU too.
void embedding_forward(const Stream& on, std::int64_t T, std::int64_t C, const std::int32_t* tokens,
                       ConstValues table, float* out);

/// out[t] += table[positions[t]]: learned positions (GPT-2, 2019), of which embedding_backward is the
/// gradient too.
void embedding_add(const Stream& on, std::int64_t T, std::int64_t C, const std::int32_t* positions,
                   ConstValues table, float* out);

/// x [n] *= factor: embeddings that are scaled (Vaswani et al. 2017; Gemma), and their gradient.
void embedding_scale(const Stream& on, std::int64_t n, float factor, float* x);

/// d_table[tokens[t]] += d_out[t], in ascending t for each row (deterministic); d_table [V, C].
void embedding_backward(const Stream& on, std::int64_t T, std::int64_t C, const std::int32_t* tokens,
                        const float* d_out, float* d_table);

}  // namespace infalign::kernels
