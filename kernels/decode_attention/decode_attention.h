// Attention of one new token per sequence over a key/value cache. The cache is in two parts: the prompt's,
// shared by all samples of that prompt, and the sample's own. Keys are stored in blocks of 16 positions, the
// position innermost: the scores of a block are one vector whatever the head dimension, and a sequence's
// keys, like its values, are read from one end to the other.
#pragma once

#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/device.h"
#include "kernels/values.h"

namespace infalign::kernels {

/// One layer's cache of `slots` sequences of up to `capacity` positions, a multiple of 16.
struct CacheView {
  Values keys;    // [slots, kv_heads, capacity / 16, head_dim, 16]
  Values values;  // [slots, kv_heads, capacity, head_dim]
  std::int64_t slots = 0;
  std::int64_t capacity = 0;
};

/// Stores the keys and values of n rows qkv [n, shape.row()] at (slot[i], position[i]).
void cache_store(const Stream& on, const AttentionShape& shape, std::int64_t n, ConstValues qkv,
                 const std::int32_t* slot, const std::int32_t* position, const CacheView& cache);

/// Row i attends to positions [0, prefix_length[i]) of slot prefix_slot[i] of `prefix` and to positions
/// [0, own_length[i]) of slot own_slot[i] of `own` (the new token itself already stored), which follow the
/// prefix's; of these all, the last shape.window if there is a window. qkv [n,
/// shape.row()], of which only the queries are read; out [n, heads * head_dim]. A row's bits do not depend on
/// the other rows.
void decode_attention(const Stream& on, const AttentionShape& shape, std::int64_t n, ConstValues qkv,
                      const CacheView& prefix, const std::int32_t* prefix_slot,
                      const std::int32_t* prefix_length, const CacheView& own, const std::int32_t* own_slot,
                      const std::int32_t* own_length, Values out);

}  // namespace infalign::kernels
