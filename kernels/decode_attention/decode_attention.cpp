// Decoding attention on the CPU. Consecutive rows that continue the same prompt meet its cached keys and
// values together, as a matrix; each then meets its own cache alone. The arithmetic of a row is the same
// chain whatever rows stand beside it.
#include "kernels/decode_attention/decode_attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/attention/tile_product.h"
#include "kernels/cuda/operations.h"
#include "kernels/exponential.h"
#include "kernels/parallel.h"
#include "kernels/softcap/softcap.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

/// Rows of the batch handled together at most; bounds the scratch.
constexpr std::int64_t kRowBlock = 32;

/// One layer's decoding step, as the caller gave it.
struct Step {
  const AttentionShape& shape;
  const float* qkv;
  const CacheView& prefix;
  const std::int32_t* prefix_slot;
  const std::int32_t* prefix_length;
  const CacheView& own;
  const std::int32_t* own_slot;
  const std::int32_t* own_length;
  float* out;
};

/// One slot's keys [capacity / 16, head_dim, 16] and values [capacity, head_dim] of a key/value head.
struct SlotView {
  float* keys;
  float* values;
  std::int64_t head_dim;

  SlotView(const AttentionShape& shape, const CacheView& cache, std::int64_t slot, std::int64_t kv_head)
      : keys(cache.keys.floats() + (slot * shape.kv_heads + kv_head) * shape.head_dim * cache.capacity),
        values(cache.values.floats() + (slot * shape.kv_heads + kv_head) * shape.head_dim * cache.capacity),
        head_dim(shape.head_dim) {}

  void store(std::int64_t position, const float* key, const float* value) const {
    float* column = keys + position / kLanes * kLanes * head_dim + position % kLanes;
    for (std::int64_t d = 0; d < head_dim; ++d) column[d * kLanes] = key[d];
    std::copy_n(value, head_dim, values + position * head_dim);
  }

  /// scores [rows, stride] = queries [rows, head_dim] x the first `count` keys, and some more up to a whole
  /// vector.
  void score(std::int64_t rows, const float* queries, std::int64_t count, float* scores,
             std::int64_t stride) const {
    block_product(rows, padded(count), head_dim, {queries, head_dim, 1}, keys, Store::kOverwrite, scores,
                  stride);
  }

  /// result [rows, head_dim] = or += weights [rows, stride] x the first `count` values, by `product`.
  template <class Product>
  void combine(Product product, std::int64_t rows, const float* weights, std::int64_t stride,
               std::int64_t count, Store store, float* result) const {
    product(rows, head_dim, count, {weights, stride, 1}, values, head_dim, store, result, head_dim);
  }
};

/// Scores of query rows: row r holds `prefix` scores from 0 and own[r] from padded(prefix); the rest is
/// unset.
struct ScoreRows {
  float* scores;  // [rows, stride]
  std::int64_t rows, stride, prefix;
  const std::int32_t* own;  // [rows]
};

constexpr float kNone = -std::numeric_limits<float>::infinity();

/// join(a, b) over all lanes, as a tree.
template <class Join>
[[gnu::always_inline]] static inline float across_lanes(const float* lanes, Join join) {
  static_assert(kLanes == 16);
  float eight[8], four[4];
  for (int i = 0; i < 8; ++i) eight[i] = join(lanes[i], lanes[i + 8]);
  for (int i = 0; i < 4; ++i) four[i] = join(eight[i], eight[i + 4]);
  return join(join(four[0], four[2]), join(four[1], four[3]));
}

/// Lane by lane, the larger of `most` and the scores; places of the last vector that hold no score get one.
[[gnu::always_inline]] static inline void take_maximum(float* score, std::int32_t count, float* most) {
  for (std::int32_t base = 0; base < count; base += kLanes)
#pragma omp simd
    for (std::int32_t lane = 0; lane < kLanes; ++lane) {
      const float s = base + lane < count ? score[base + lane] : kNone;
      score[base + lane] = s;
      most[lane] = s > most[lane] ? s : most[lane];
    }
}

[[gnu::always_inline]] static inline void exponentiate(float* score, std::int32_t count, float most,
                                                       float* sum) {
  for (std::int32_t base = 0; base < count; base += kLanes)
#pragma omp simd
    for (std::int32_t lane = 0; lane < kLanes; ++lane) {
      const float e = exponential(score[base + lane] - most);
      score[base + lane] = e;
      sum[lane] += e;
    }
}

/// The scores of positions before a row's window become -infinity.
void apply_window(const ScoreRows& at, std::int64_t window) {
  for (std::int64_t r = 0; r < at.rows; ++r) {
    const std::int64_t unseen = std::max<std::int64_t>(0, at.prefix + at.own[r] - window);
    float* shared = at.scores + r * at.stride;
    std::fill_n(shared, std::min(unseen, at.prefix), kNone);
    std::fill_n(shared + padded(at.prefix), std::max<std::int64_t>(0, unseen - at.prefix), kNone);
  }
}

/// Each score becomes exp(score - maximum of the row); factor [rows] = 1 / their sum.
INFALIGN_VECTORISE
void softmax(const ScoreRows& at, float* factor) {
  const auto prefix = static_cast<std::int32_t>(at.prefix);
  for (std::int64_t r = 0; r < at.rows; ++r) {
    float* shared = at.scores + r * at.stride;
    float* own = shared + padded(at.prefix);
    float lane_most[kLanes], lane_sum[kLanes];
    std::fill_n(lane_most, kLanes, kNone);
    std::fill_n(lane_sum, kLanes, 0.0f);
    take_maximum(shared, prefix, lane_most);
    take_maximum(own, at.own[r], lane_most);
    const float most = across_lanes(lane_most, [](float a, float b) { return a > b ? a : b; });
    exponentiate(shared, prefix, most, lane_sum);
    exponentiate(own, at.own[r], most, lane_sum);
    factor[r] = 1.0f / across_lanes(lane_sum, [](float a, float b) { return a + b; });
  }
}

/// to [n, width] = rows `stride` apart, times factor.
INFALIGN_VECTORISE
void gather(std::int64_t n, std::int64_t width, const float* rows, std::int64_t stride, float factor,
            float* to) {
  for (std::int64_t i = 0; i < n; ++i)
#pragma omp simd
    for (std::int64_t d = 0; d < width; ++d) to[i * width + d] = rows[i * stride + d] * factor;
}

/// Rows `stride` apart = from [n, group, head_dim], each head times its factor [n, group].
INFALIGN_VECTORISE
void scatter(std::int64_t n, std::int64_t group, std::int64_t head_dim, const float* from,
             const float* factor, float* rows, std::int64_t stride) {
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t g = 0; g < group; ++g) {
      const std::int64_t r = i * group + g;
#pragma omp simd
      for (std::int64_t d = 0; d < head_dim; ++d)
        rows[i * stride + g * head_dim + d] = from[r * head_dim + d] * factor[r];
    }
}

struct Scratch {
  Buffer<float> queries, scores, result;
  std::vector<float> factor;
  std::vector<std::int32_t> own_length;
};

/// Rows [begin, begin + n), all with the same prefix, for one key/value head.
void attend(const Step& step, std::int64_t begin, std::int64_t n, std::int64_t kv_head) {
  static thread_local Scratch s;
  const AttentionShape& shape = step.shape;
  const std::int64_t head_dim = shape.head_dim, group = shape.heads / shape.kv_heads;
  const std::int64_t rows = n * group, first_query = kv_head * group * head_dim;
  const std::int64_t prefix = step.prefix_length[begin];
  const std::int64_t longest_own = *std::max_element(step.own_length + begin, step.own_length + begin + n);
  const std::int64_t stride = padded(prefix) + padded(longest_own);
  s.queries.reserve(static_cast<std::size_t>(rows * head_dim));
  s.result.reserve(static_cast<std::size_t>(rows * head_dim));
  s.scores.reserve(static_cast<std::size_t>(rows * stride));
  s.factor.resize(static_cast<std::size_t>(rows));
  s.own_length.resize(static_cast<std::size_t>(rows));
  float* queries = s.queries.data();  // [rows, head_dim], scaled
  float* scores = s.scores.data();    // [rows, stride]
  float* result = s.result.data();    // [rows, head_dim]

  gather(n, group * head_dim, step.qkv + begin * shape.row() + first_query, shape.row(), shape.scale,
         queries);
  for (std::int64_t i = 0; i < n; ++i)
    std::fill_n(s.own_length.data() + i * group, group, step.own_length[begin + i]);
  if (prefix > 0)
    SlotView(shape, step.prefix, step.prefix_slot[begin], kv_head)
        .score(rows, queries, prefix, scores, stride);
  for (std::int64_t i = 0; i < n; ++i)
    SlotView(shape, step.own, step.own_slot[begin + i], kv_head)
        .score(group, queries + i * group * head_dim, step.own_length[begin + i],
               scores + i * group * stride + padded(prefix), stride);

  const ScoreRows all{scores, rows, stride, prefix, s.own_length.data()};
  if (shape.softcap > 0) softcap_forward({}, rows * stride, shape.softcap, scores);
  if (shape.window > 0) apply_window(all, shape.window);
  softmax(all, s.factor.data());

  if (prefix > 0)
    SlotView(shape, step.prefix, step.prefix_slot[begin], kv_head)
        .combine(tile_product, rows, scores, stride, prefix, Store::kOverwrite, result);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t row = begin + i;
    SlotView(shape, step.own, step.own_slot[row], kv_head)
        .combine(few_rows_product, group, scores + i * group * stride + padded(prefix), stride,
                 step.own_length[row], prefix > 0 ? Store::kAdd : Store::kOverwrite,
                 result + i * group * head_dim);
  }
  const std::int64_t out_row = shape.heads * head_dim;
  scatter(n, group, head_dim, result, s.factor.data(), step.out + begin * out_row + first_query, out_row);
}

}  // namespace

void cache_store(const Stream& on, const AttentionShape& shape, std::int64_t n, ConstValues qkv,
                 const std::int32_t* slot, const std::int32_t* position, const CacheView& cache) {
  if (on.device() == Device::kCuda) return on_cuda().cache_store(on, shape, n, qkv, slot, position, cache);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
      const SlotView view(shape, cache, slot[i], kv_head);
      const float* key = qkv.floats() + i * shape.row() + (shape.heads + kv_head) * shape.head_dim;
      const float* value = key + shape.kv_heads * shape.head_dim;
      view.store(position[i], key, value);
    }
}

void decode_attention(const Stream& on, const AttentionShape& shape, std::int64_t n, ConstValues qkv,
                      const CacheView& prefix, const std::int32_t* prefix_slot,
                      const std::int32_t* prefix_length, const CacheView& own, const std::int32_t* own_slot,
                      const std::int32_t* own_length, Values out) {
  if (on.device() == Device::kCuda)
    return on_cuda().decode_attention(on, shape, n, qkv, prefix, prefix_slot, prefix_length, own, own_slot,
                                      own_length, out);
  const Step step{shape, qkv.floats(), prefix,     prefix_slot, prefix_length,
                  own,   own_slot,     own_length, out.floats()};
  static thread_local std::vector<std::int64_t> starts;  // of the groups of rows, and n
  starts.clear();
  for (std::int64_t i = 0; i < n; ++i) {
    const bool joins = !starts.empty() && i - starts.back() < kRowBlock &&
                       prefix_length[i] == prefix_length[i - 1] && prefix_slot[i] == prefix_slot[i - 1];
    if (!joins) starts.push_back(i);
  }
  starts.push_back(n);
  const std::vector<std::int64_t>& groups = starts;  // the caller's, for the other threads to read
  parallel_for((std::ssize(groups) - 1) * shape.kv_heads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t item = begin; item < end; ++item) {
      const auto at = static_cast<std::size_t>(item / shape.kv_heads);
      attend(step, groups[at], groups[at + 1] - groups[at], item % shape.kv_heads);
    }
  });
}

}  // namespace infalign::kernels
