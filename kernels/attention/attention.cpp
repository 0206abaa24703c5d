// Attention over packed segments on the CPU. Work is shared out by family and key/value head. Within one, a
// block of queries of a segment meets its keys with the queries side by side in the lanes of a vector: scores
// stand as [keys, lanes], so maxima and sums run down the lanes, no lane is lost to odd numbers of keys, and
// keys and values are read where they lie, one number at a time. A lane is a (token, query head of the group)
// pair, token-major.
#include "kernels/attention/attention.h"

#include <algorithm>
#include <limits>

#include "kernels/attention/families.h"
#include "kernels/attention/lanes.h"
#include "kernels/attention/tile_product.h"
#include "kernels/cuda/operations.h"
#include "kernels/exponential.h"
#include "kernels/logarithm.h"
#include "kernels/parallel.h"
#include "kernels/softcap/softcap.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

/// One key/value head and its group of query heads: offsets in a row of q-k-v, of out and of log_sum_exp.
struct HeadView {
  std::int64_t head_dim, group, row, out_row, heads;
  std::int64_t query, key, value;  // `query` also in a row of out
  std::int64_t first_head;         // in a row of log_sum_exp
  float scale;
  std::int64_t window;
  float softcap;

  HeadView(const AttentionShape& shape, std::int64_t kv_head)
      : head_dim(shape.head_dim),
        group(shape.heads / shape.kv_heads),
        row(shape.row()),
        out_row(shape.heads * shape.head_dim),
        heads(shape.heads),
        query(kv_head * group * head_dim),
        key((shape.heads + kv_head) * head_dim),
        value((shape.heads + shape.kv_heads + kv_head) * head_dim),
        first_head(kv_head * group),
        scale(shape.scale),
        window(shape.window),
        softcap(shape.softcap) {}
};

/// Queries of some tokens of a segment, and the keys that any of them sees: the prefix's, then the segment's
/// own up to the last of these tokens.
struct Block {
  std::int64_t begin;                 // row of the first token in the batch
  std::int64_t first;                 // that token's place among the segment's keys
  std::int64_t prefix_begin, prefix;  // row and number of the prefix's keys
  std::int64_t own_begin, own;        // row and number of the segment's keys
  LaneLayout layout;

  std::int64_t keys() const { return prefix + own; }

  /// Leaves out the first `count` keys, which no token sees.
  void skip(std::int64_t count) {
    const std::int64_t of_prefix = std::min(count, prefix), of_own = count - of_prefix;
    prefix_begin += of_prefix;
    prefix -= of_prefix;
    own_begin += of_own;
    own -= of_own;
    first -= of_own;
  }
};

/// One thread's scratch, reused by all its calls.
struct Scratch {
  Buffer<float> queries, d_out, result;  // [head_dim, lanes]
  Buffer<float> scores, d_scores;        // [keys, lanes]
  Buffer<float> capped;                  // [keys, lanes], where there is a cap
  Buffer<float> factor, log_sum_exp;     // [lanes]

  static Scratch& of_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }
  void reserve(const HeadView& head, const Block& block) {
    for (Buffer<float>* buffer : {&queries, &d_out, &result})
      buffer->reserve(static_cast<std::size_t>(head.head_dim * block.layout.lanes));
    for (Buffer<float>* buffer : {&scores, &d_scores})
      buffer->reserve(static_cast<std::size_t>(block.keys() * block.layout.lanes));
    if (head.softcap > 0) capped.reserve(static_cast<std::size_t>(block.keys() * block.layout.lanes));
    for (Buffer<float>* buffer : {&factor, &log_sum_exp})
      buffer->reserve(static_cast<std::size_t>(block.layout.lanes));
  }
};

/// Calls body(block) for all queries of a segment, some 32 lanes at a time.
template <class Body>
void for_each_block(const HeadView& head, const Segment& segment, Body&& body) {
  const std::int64_t most_tokens = std::max<std::int64_t>(32 / head.group, 4);
  for (std::int64_t first = 0; first < segment.length; first += most_tokens) {
    const std::int64_t tokens = std::min(most_tokens, segment.length - first);
    Block block{.begin = segment.begin + first,
                .first = first,
                .prefix_begin = segment.prefix_begin,
                .prefix = segment.prefix_length,
                .own_begin = segment.begin,
                .own = first + tokens,
                .layout = {tokens, head.group, padded(tokens * head.group)}};
    const std::int64_t before = segment.prefix_length + first;
    if (head.window > 0 && before >= head.window) block.skip(before - head.window + 1);
    Scratch::of_thread().reserve(head, block);
    body(block);
  }
}

/// Each lane of x [head_dim, lanes] times its factor.
INFALIGN_VECTORISE
void scale_lanes(const Block& block, std::int64_t head_dim, const float* factor, float* x) {
  for (std::int64_t d = 0; d < head_dim; ++d)
#pragma omp simd
    for (std::int64_t lane = 0; lane < block.layout.lanes; ++lane)
      x[d * block.layout.lanes + lane] *= factor[lane];
}

/// Keys and values of a segment's rows get gradients from several blocks; first they are zero.
void clear_gradients(const HeadView& head, const Segment& segment, float* d_qkv) {
  for (std::int64_t row = segment.begin; row < segment.begin + segment.length; ++row) {
    std::fill_n(d_qkv + row * head.row + head.key, head.head_dim, 0.0f);
    std::fill_n(d_qkv + row * head.row + head.value, head.head_dim, 0.0f);
  }
}

/// Lanes of the block below this one do not see key number `key` of prefix and segment.
[[gnu::always_inline]] static inline std::int32_t first_seeing(const Block& block, std::int64_t key) {
  return static_cast<std::int32_t>((key - block.prefix - block.first) * block.layout.group);
}

/// Scores of keys before a lane's window become -infinity.
void apply_window(const Block& block, std::int64_t window, float* scores) {
  const std::int64_t used = block.layout.tokens * block.layout.group;
  for (std::int64_t key = 0; key < block.keys(); ++key) {
    const std::int64_t last_seeing = first_seeing(block, key) + window * block.layout.group;
    float* score = scores + key * block.layout.lanes;
    for (std::int64_t lane = std::max<std::int64_t>(0, last_seeing); lane < used; ++lane)
      score[lane] = -std::numeric_limits<float>::infinity();
  }
}

/// scores become exp(score - the lane's maximum), 0 where unseen; factor = 1 / their sum over keys;
/// log_sum_exp = that of the scores. All per lane.
INFALIGN_VECTORISE
void softmax(const Block& block, float* scores, float* factor, float* log_sum_exp) {
  for (std::int64_t base = 0; base < block.layout.lanes; base += kLanes) {
    float most[kLanes], sum[kLanes];
    std::fill_n(most, kLanes, -std::numeric_limits<float>::infinity());
    std::fill_n(sum, kLanes, 0.0f);
    for (std::int64_t key = 0; key < block.keys(); ++key) {
      float* score = scores + key * block.layout.lanes + base;
      const std::int32_t seeing = first_seeing(block, key) - static_cast<std::int32_t>(base);
#pragma omp simd
      for (std::int32_t lane = 0; lane < kLanes; ++lane) {
        const float s = lane < seeing ? -std::numeric_limits<float>::infinity() : score[lane];
        score[lane] = s;
        most[lane] = s > most[lane] ? s : most[lane];
      }
    }
    for (std::int64_t key = 0; key < block.keys(); ++key) {
      float* score = scores + key * block.layout.lanes + base;
#pragma omp simd
      for (std::int32_t lane = 0; lane < kLanes; ++lane) {
        const float e = exponential(score[lane] - most[lane]);
        score[lane] = e;
        sum[lane] += e;
      }
    }
#pragma omp simd
    for (std::int32_t lane = 0; lane < kLanes; ++lane) {
      factor[base + lane] = 1.0f / sum[lane];
      log_sum_exp[base + lane] = most[lane] + logarithm(sum[lane]);
    }
  }
}

/// scores become probabilities P = exp(score - log_sum_exp), 0 where unseen, and their gradients dP become
/// the scaled scores' gradients: scale * P * (dP - sum over keys of P dP).
INFALIGN_VECTORISE
void softmax_backward(const Block& block, float scale, const float* log_sum_exp, float* scores,
                      float* gradients) {
  for (std::int64_t base = 0; base < block.layout.lanes; base += kLanes) {
    float along[kLanes];
    std::fill_n(along, kLanes, 0.0f);
    for (std::int64_t key = 0; key < block.keys(); ++key) {
      float* score = scores + key * block.layout.lanes + base;
      const float* gradient = gradients + key * block.layout.lanes + base;
      const std::int32_t seeing = first_seeing(block, key) - static_cast<std::int32_t>(base);
#pragma omp simd
      for (std::int32_t lane = 0; lane < kLanes; ++lane) {
        const float p = exponential(score[lane] - log_sum_exp[base + lane]);
        const float seen = lane < seeing ? 0.0f : p;
        score[lane] = seen;
        along[lane] += seen * gradient[lane];
      }
    }
    for (std::int64_t key = 0; key < block.keys(); ++key) {
      const float* p = scores + key * block.layout.lanes + base;
      float* gradient = gradients + key * block.layout.lanes + base;
#pragma omp simd
      for (std::int32_t lane = 0; lane < kLanes; ++lane)
        gradient[lane] = scale * p[lane] * (gradient[lane] - along[lane]);
    }
  }
}

/// to [keys, lanes] = (keys or values, at `offset` in the rows of the batch) [keys, head_dim] x from
/// [head_dim, lanes].
void over_dimensions(const HeadView& head, const Block& block, const float* qkv, std::int64_t offset,
                     const float* from, float* to) {
  const auto part = [&](std::int64_t begin, std::int64_t count, float* c) {
    tile_product(count, block.layout.lanes, head.head_dim, {qkv + begin * head.row + offset, head.row, 1},
                 from, block.layout.lanes, Store::kOverwrite, c, block.layout.lanes);
  };
  if (block.prefix > 0) part(block.prefix_begin, block.prefix, to);
  part(block.own_begin, block.own, to + block.prefix * block.layout.lanes);
}

/// to [head_dim, lanes] = transpose(keys or values) [head_dim, keys] x from [keys, lanes].
void over_keys(const HeadView& head, const Block& block, const float* qkv, std::int64_t offset,
               const float* from, float* to) {
  const auto part = [&](std::int64_t begin, std::int64_t count, const float* b, Store store) {
    tile_product(head.head_dim, block.layout.lanes, count, {qkv + begin * head.row + offset, 1, head.row}, b,
                 block.layout.lanes, store, to, block.layout.lanes);
  };
  if (block.prefix > 0) part(block.prefix_begin, block.prefix, from, Store::kOverwrite);
  part(block.own_begin, block.own, from + block.prefix * block.layout.lanes,
       block.prefix > 0 ? Store::kAdd : Store::kOverwrite);
}

/// The gradients of keys or values, at `offset` in the rows of d_qkv, += weights [keys, lanes] x the block's
/// rows of `right`, which are `stride` apart: one product for each query head of the group.
void add_over_lanes(const HeadView& head, const Block& block, const float* weights, const float* right,
                    std::int64_t stride, std::int64_t offset, float* d_qkv) {
  const auto part = [&](std::int64_t begin, std::int64_t count, const float* a) {
    for (std::int64_t g = 0; g < head.group; ++g)
      tile_product(count, head.head_dim, block.layout.tokens, {a + g, block.layout.lanes, head.group},
                   right + g * head.head_dim, stride, Store::kAdd, d_qkv + begin * head.row + offset,
                   head.row);
  };
  if (block.prefix > 0) part(block.prefix_begin, block.prefix, weights);
  part(block.own_begin, block.own, weights + block.prefix * block.layout.lanes);
}

void forward_block(const HeadView& head, const Block& block, const float* qkv, float* out,
                   float* log_sum_exp) {
  Scratch& s = Scratch::of_thread();
  rows_to_lanes(block.layout, head.head_dim, qkv + block.begin * head.row + head.query, head.row, head.scale,
                s.queries.data());
  over_dimensions(head, block, qkv, head.key, s.queries.data(), s.scores.data());
  if (head.softcap > 0) softcap_forward({}, block.keys() * block.layout.lanes, head.softcap, s.scores.data());
  if (head.window > 0) apply_window(block, head.window, s.scores.data());
  softmax(block, s.scores.data(), s.factor.data(), s.log_sum_exp.data());
  over_keys(head, block, qkv, head.value, s.scores.data(), s.result.data());
  scale_lanes(block, head.head_dim, s.factor.data(), s.result.data());
  lanes_to_rows(block.layout, head.head_dim, s.result.data(), out + block.begin * head.out_row + head.query,
                head.out_row);
  lanes_to_rows(block.layout, 1, s.log_sum_exp.data(),
                log_sum_exp + block.begin * head.heads + head.first_head, head.heads);
}

void backward_block(const HeadView& head, const Block& block, const float* qkv, const float* log_sum_exp,
                    const float* d_out, float* d_qkv) {
  Scratch& s = Scratch::of_thread();
  const float* queries = qkv + block.begin * head.row + head.query;
  const float* block_d_out = d_out + block.begin * head.out_row + head.query;
  rows_to_lanes(block.layout, head.head_dim, queries, head.row, head.scale, s.queries.data());
  rows_to_lanes(block.layout, head.head_dim, block_d_out, head.out_row, 1.0f, s.d_out.data());
  rows_to_lanes(block.layout, 1, log_sum_exp + block.begin * head.heads + head.first_head, head.heads, 1.0f,
                s.log_sum_exp.data());
  over_dimensions(head, block, qkv, head.key, s.queries.data(), s.scores.data());
  over_dimensions(head, block, qkv, head.value, s.d_out.data(), s.d_scores.data());
  const std::int64_t scores = block.keys() * block.layout.lanes;
  if (head.softcap > 0) {
    softcap_forward({}, scores, head.softcap, s.scores.data());
    std::copy_n(s.scores.data(), scores, s.capped.data());
  }
  if (head.window > 0) apply_window(block, head.window, s.scores.data());
  softmax_backward(block, head.scale, s.log_sum_exp.data(), s.scores.data(), s.d_scores.data());
  if (head.softcap > 0) softcap_backward({}, scores, head.softcap, s.capped.data(), s.d_scores.data());
  over_keys(head, block, qkv, head.key, s.d_scores.data(), s.result.data());
  lanes_to_rows(block.layout, head.head_dim, s.result.data(), d_qkv + block.begin * head.row + head.query,
                head.row);
  add_over_lanes(head, block, s.d_scores.data(), queries, head.row, head.key, d_qkv);
  add_over_lanes(head, block, s.scores.data(), block_d_out, head.out_row, head.value, d_qkv);
}

/// Calls body(head, segments) for every key/value head of every family, shared out over the threads.
template <class Body>
void for_each_family(const AttentionShape& shape, std::span<const Segment> segments, Body&& body) {
  const std::vector<Family> families = families_of(segments);
  const std::int64_t items = std::ssize(families) * shape.kv_heads;
  parallel_for(items, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t item = begin; item < end; ++item) {
      const Family& family = families[static_cast<std::size_t>(item / shape.kv_heads)];
      body(HeadView(shape, item % shape.kv_heads), segments.subspan(family.begin, family.end - family.begin));
    }
  });
}

}  // namespace

void attention_forward(const Stream& on, const AttentionShape& shape, std::span<const Segment> segments,
                       ConstValues qkv, Values out, float* log_sum_exp) {
  if (on.device() == Device::kCuda)
    return on_cuda().attention_forward(on, shape, segments, qkv, out, log_sum_exp);
  for_each_family(shape, segments, [&](const HeadView& head, std::span<const Segment> family) {
    for (const Segment& segment : family)
      for_each_block(head, segment, [&](const Block& block) {
        forward_block(head, block, qkv.floats(), out.floats(), log_sum_exp);
      });
  });
}

// `out` is not needed: sum_d out d_out, which the softmax's gradient subtracts, is also sum over keys of P
// dP.
void attention_backward(const Stream& on, const AttentionShape& shape, std::span<const Segment> segments,
                        std::int64_t T, ConstValues qkv, ConstValues out, const float* log_sum_exp,
                        ConstValues d_out, Values d_qkv) {
  if (on.device() == Device::kCuda)
    return on_cuda().attention_backward(on, shape, segments, T, qkv, out, log_sum_exp, d_out, d_qkv);
  for_each_family(shape, segments, [&](const HeadView& head, std::span<const Segment> family) {
    for (const Segment& segment : family) clear_gradients(head, segment, d_qkv.floats());
    for (const Segment& segment : family)
      for_each_block(head, segment, [&](const Block& block) {
        backward_block(head, block, qkv.floats(), log_sum_exp, d_out.floats(), d_qkv.floats());
      });
  });
}

}  // namespace infalign::kernels
