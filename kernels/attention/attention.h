// Causal attention over packed sequences that may share a prefix. A batch is one list of T tokens cut into
// segments; the tokens of a segment attend to all rows of the segment's prefix and, causally, to the segment
// itself. So a prompt is stored and computed once for all of its sampled responses, and nothing is ever
// padded.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/device.h"
#include "kernels/values.h"

namespace infalign::kernels {

/// `length` consecutive rows from `begin`, preceded in attention by `prefix_length` rows from `prefix_begin`
/// (rows of the same packed batch; prefix_length 0 for none). A prefix has no prefix itself.
struct Segment {
  std::int32_t begin = 0;
  std::int32_t length = 0;
  std::int32_t prefix_begin = 0;
  std::int32_t prefix_length = 0;
};

/// Grouped-query attention: query head h reads key/value head h / (heads / kv_heads).
struct AttentionShape {
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  float scale = 0;          // usually 1 / sqrt(head_dim)
  std::int64_t window = 0;  // a query sees itself and window - 1 positions before (Mistral, 2023); 0: all
  float softcap = 0;        // scaled scores s become softcap * tanh(s / softcap) (Gemma 2); 0: they do not
  constexpr std::int64_t row() const {
    return (heads + 2 * kv_heads) * head_dim;
  }  // width of a packed q-k-v row
};

/// On a GPU values in bfloat16 are multiplied in its tensor cores, with sums in float32.
/// Positions for windows are counted from the first row of a segment's prefix.
/// qkv [T, shape.row()]: each row q heads, then k heads, then v heads. out [T, heads * head_dim];
/// log_sum_exp [T, heads] of the scaled (and capped) scores, kept for the backward pass.
void attention_forward(const Stream& on, const AttentionShape& shape, std::span<const Segment> segments,
                       ConstValues qkv, Values out, float* log_sum_exp);

/// d_qkv [T, shape.row()] is overwritten; gradients into a shared prefix are summed over its segments in
/// order. Segments cover every row of [0, T) exactly once.
void attention_backward(const Stream& on, const AttentionShape& shape, std::span<const Segment> segments,
                        std::int64_t T, ConstValues qkv, ConstValues out, const float* log_sum_exp,
                        ConstValues d_out, Values d_qkv);

}  // namespace infalign::kernels
