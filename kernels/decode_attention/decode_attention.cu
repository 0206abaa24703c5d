// Decoding attention on a GPU, split over the positions: a block meets 256 of them with the query heads of
// one key/value head of one row, and leaves their maximum, sum and weighted values; a second kernel joins
// these in the order of the positions. Which positions stand in a block does not depend on other rows, so
// neither do a row's bits. Bound: memory, each key and value read once for its group of heads; 256 rows of
// 2048 positions, 8 key/value heads of 128 (4.3 GB in float32) on an H100 at 3.0 TB/s: 1.4 ms, in bfloat16
// half of that.
#include "kernels/decode_attention/decode_attention.h"

#include <algorithm>

#include "kernels/attention/tile_product.h"
#include "kernels/cuda/each.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/stored.h"
#include "kernels/exponential.h"
#include "kernels/hyperbolic_tangent.h"

namespace infalign::kernels::cuda {
namespace {

constexpr std::int64_t kPositions = kEachThreads;      // of one block, one a thread
constexpr std::int64_t kHeads = kEachThreads / kWarp;  // query heads at a time, one a warp

template <class Stored>
struct Store {
  AttentionShape shape;
  const Stored* qkv;
  const std::int32_t *slot, *position;
  Stored *keys, *values;
  std::int64_t capacity;
  __device__ void operator()(std::int64_t i, std::int64_t entry) const {
    const std::int64_t D = shape.head_dim, kv_head = entry / D, d = entry % D;
    const Stored* key = qkv + i * shape.row() + (shape.heads + kv_head) * D + d;
    const std::int64_t at = (slot[i] * shape.kv_heads + kv_head) * D * capacity;
    const std::int64_t p = position[i];
    keys[at + p / kLanes * kLanes * D + d * kLanes + p % kLanes] = key[0];
    values[at + p * D + d] = key[shape.kv_heads * D];
  }
};

/// A CacheView, typed.
template <class Stored>
struct Cache {
  const Stored *keys, *values;
  std::int64_t capacity;
  explicit Cache(const CacheView& view)
      : keys(view.keys.as<Stored>()), values(view.values.as<Stored>()), capacity(view.capacity) {}
};

/// One decoding step, as the caller gave it, and what its blocks leave behind.
template <class Stored>
struct Step {
  AttentionShape shape;
  const Stored* qkv;
  Cache<Stored> prefix;
  const std::int32_t *prefix_slot, *prefix_length;
  Cache<Stored> own;
  const std::int32_t *own_slot, *own_length;
  std::int64_t prefix_blocks, blocks;  // of positions
  float *most, *sum;                   // [rows, heads, blocks]
  float* weighted;                     // [rows, heads, blocks, head_dim]
};

template <class Stored>
__global__ void __launch_bounds__(kEachThreads) attend_to_block(Step<Stored> step) {
  INFALIGN_SHARED(float, score, [kHeads][kPositions]);
  INFALIGN_DYNAMIC_SHARED(float, query);  // [kHeads, head_dim], scaled
  const AttentionShape& shape = step.shape;
  const std::int64_t D = shape.head_dim, group = shape.heads / shape.kv_heads;
  const std::int64_t i = blockIdx.x, kv_head = blockIdx.y, block = blockIdx.z;
  const std::int64_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;

  const bool in_prefix = block < step.prefix_blocks;
  const Cache<Stored>& cache = in_prefix ? step.prefix : step.own;
  const std::int64_t slot = in_prefix ? step.prefix_slot[i] : step.own_slot[i];
  const std::int64_t length = in_prefix ? step.prefix_length[i] : step.own_length[i];
  const std::int64_t begin = (in_prefix ? block : block - step.prefix_blocks) * kPositions;
  const std::int64_t count = length - begin < kPositions ? length - begin : kPositions;
  // Of all positions, the last `window` are seen.
  const std::int64_t unseen =
      shape.window > 0 ? step.prefix_length[i] + step.own_length[i] - shape.window : 0;
  const std::int64_t first_seen = (in_prefix ? unseen : unseen - step.prefix_length[i]) - begin;
  const std::int64_t head_begin = (slot * shape.kv_heads + kv_head) * D * cache.capacity;
  const Stored* values = cache.values + head_begin + begin * D;
  const std::int64_t key_begin = head_begin + begin * D;  // blocks of 16 positions lie whole in ours
  const Stored* key = cache.keys + key_begin + threadIdx.x / kLanes * kLanes * D + threadIdx.x % kLanes;

  for (std::int64_t first = 0; first < group; first += kHeads) {
    const std::int64_t heads = group - first < kHeads ? group - first : kHeads;
    const std::int64_t head = kv_head * group + first;
    const Stored* from = step.qkv + i * shape.row() + head * D;
    for (std::int64_t entry = threadIdx.x; entry < heads * D; entry += blockDim.x)
      query[entry] = widened(from[entry]) * shape.scale;
    __syncthreads();

    float own[kHeads] = {};
    const std::int64_t position = threadIdx.x;
    const bool seen = position < count && position >= first_seen;
    if (seen)
      for (std::int64_t d = 0; d < D; ++d) {
        const float k = widened(key[d * kLanes]);
#pragma unroll
        for (std::int64_t h = 0; h < kHeads; ++h)
          if (h < heads) own[h] += query[h * D + d] * k;
      }
#pragma unroll
    for (std::int64_t h = 0; h < kHeads; ++h) {
      if (shape.softcap > 0) own[h] = shape.softcap * hyperbolic_tangent(own[h] / shape.softcap);
      score[h][position] = seen ? own[h] : -INFINITY;
    }
    __syncthreads();

    if (warp < heads) {  // each warp its head
      float most = -INFINITY, sum = 0;
      for (std::int64_t p = lane; p < kPositions; p += kWarp) most = Maximum()(score[warp][p], most);
      most = warp_reduce(most, Maximum());
      for (std::int64_t p = lane; p < kPositions; p += kWarp) {
        const float e = score[warp][p] == -INFINITY ? 0.0f : exponential(score[warp][p] - most);
        score[warp][p] = e;
        sum += e;
      }
      sum = warp_reduce(sum, Sum());
      if (lane == 0) {
        const std::int64_t at = (i * shape.heads + head + warp) * step.blocks + block;
        step.most[at] = most;
        step.sum[at] = sum;
      }
    }
    __syncthreads();

    for (std::int64_t entry = threadIdx.x; entry < heads * D; entry += blockDim.x) {
      const std::int64_t h = entry / D, d = entry % D;
      float total = 0;
      for (std::int64_t p = first_seen > 0 ? first_seen : 0; p < count; ++p)
        total += score[h][p] * widened(values[p * D + d]);
      step.weighted[((i * shape.heads + head + h) * step.blocks + block) * D + d] = total;
    }
  }
}

/// Entry d of head number `item` of all rows: the blocks' parts, in order.
template <class Stored>
struct JoinBlocks {
  std::int64_t blocks, head_dim;
  const float *most, *sum, *weighted;
  Stored* out;  // [rows, heads, head_dim]
  __device__ void operator()(std::int64_t item, std::int64_t d) const {
    float largest = -INFINITY;
    for (std::int64_t block = 0; block < blocks; ++block)
      largest = Maximum()(most[item * blocks + block], largest);
    float total = 0, joined = 0;
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::int64_t at = item * blocks + block;
      if (sum[at] == 0.0f) continue;  // nothing of it was seen
      const float share = exponential(most[at] - largest);
      total += share * sum[at];
      joined += share * weighted[at * head_dim + d];
    }
    put(out[item * head_dim + d], joined / total);
  }
};

}  // namespace

void cache_store(const Stream& on, const AttentionShape& shape, std::int64_t n, ConstValues qkv,
                 const std::int32_t* slot, const std::int32_t* position, const CacheView& cache) {
  with_stored(qkv.stored(), [&]<class Stored>() {
    for_each_entry(on, n, shape.kv_heads * shape.head_dim,
                   Store<Stored>{shape, qkv.as<Stored>(), slot, position, cache.keys.as<Stored>(),
                                 cache.values.as<Stored>(), cache.capacity});
  });
}

void decode_attention(const Stream& on, const AttentionShape& shape, std::int64_t n, ConstValues qkv,
                      const CacheView& prefix, const std::int32_t* prefix_slot,
                      const std::int32_t* prefix_length, const CacheView& own, const std::int32_t* own_slot,
                      const std::int32_t* own_length, Values out) {
  const std::int64_t prefix_blocks = pieces(prefix.capacity, kPositions);
  const std::int64_t blocks = prefix_blocks + pieces(own.capacity, kPositions);
  const std::int64_t parts = n * shape.heads * blocks;
  const Scratch<float> scratch(on, parts * (2 + shape.head_dim));
  float *most = scratch.data(), *sum = most + parts, *weighted = sum + parts;
  const auto shared = static_cast<std::size_t>(kHeads * shape.head_dim) * sizeof(float);
  with_stored(qkv.stored(), [&]<class Stored>() {
    const Step<Stored> step{
        shape,    qkv.as<Stored>(), Cache<Stored>(prefix), prefix_slot, prefix_length, Cache<Stored>(own),
        own_slot, own_length,       prefix_blocks,         blocks,      most,          sum,
        weighted};
    launch(on, attend_to_block<Stored>, dim3(as_grid(n), as_grid(shape.kv_heads), as_grid(blocks)),
           kEachThreads, shared, step);
    for_each_entry(on, n * shape.heads, shape.head_dim,
                   JoinBlocks<Stored>{blocks, shape.head_dim, most, sum, weighted, out.as<Stored>()});
  });
}

}  // namespace infalign::kernels::cuda
