// Attention over packed segments on the CPU. Work is cut into (family, key/value head) items, where a family
// is a run of segments that only look at each other: a prompt with its responses. Within an item the prefix's
// keys and values are gathered once, keys position-innermost, for all segments that share it; then blocks of
// queries meet them by tile products. A query row here is a (token, query head of the group) pair.
#include "kernels/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/attention/tiles.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

/// Tokens of a segment whose queries are handled together.
constexpr std::int32_t kQueryBlock = 16;

/// Where one key/value head and its group of query heads lie in a row.
struct HeadView {
  std::int64_t head_dim, width;    // width: padded head_dim
  std::int64_t group;              // query heads to this key/value head
  std::int64_t query, key, value;  // offsets in a q-k-v row; `query` is also the offset in a row of `out`
  std::int64_t row, out_row;
  std::int64_t first_head, heads;  // in a row of log_sum_exp
  float scale;

  HeadView(const AttentionShape& shape, std::int64_t kv_head)
      : head_dim(shape.head_dim),
        width(padded_head(shape.head_dim)),
        group(shape.heads / shape.kv_heads),
        query(kv_head * group * head_dim),
        key((shape.heads + kv_head) * head_dim),
        value((shape.heads + shape.kv_heads + kv_head) * head_dim),
        row(shape.row()),
        out_row(shape.heads * head_dim),
        first_head(kv_head * group),
        heads(shape.heads),
        scale(shape.scale) {}
};

/// Segments [begin, end) of the batch that share no row with any other.
struct Family {
  std::size_t begin, end;
};

std::vector<Family> families_of(std::span<const Segment> segments) {
  // A family may end after segment i if all later rows and prefixes lie beyond all rows and prefixes so far.
  std::vector<std::int32_t> least_after(segments.size() + 1, INT32_MAX);
  for (std::size_t i = segments.size(); i-- > 0;) {
    const Segment& s = segments[i];
    const std::int32_t least = s.prefix_length > 0 ? std::min(s.begin, s.prefix_begin) : s.begin;
    least_after[i] = std::min(least_after[i + 1], least);
  }
  std::vector<Family> families;
  std::int32_t most = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& s = segments[i];
    most = std::max({most, s.begin + s.length, s.prefix_begin + s.prefix_length});
    if (least_after[i + 1] < most) continue;
    families.push_back({begin, i + 1});
    begin = i + 1;
  }
  return families;
}

/// to [n, width] = rows of head_dim floats, `stride` apart, times factor; padded with zeros.
INFALIGN_VECTORISE
void gather_rows(std::int64_t n, std::int64_t head_dim, std::int64_t width, const float* from,
                 std::int64_t stride, float factor, float* to) {
  for (std::int64_t i = 0; i < n; ++i) {
#pragma omp simd
    for (std::int64_t d = 0; d < head_dim; ++d) to[i * width + d] = from[i * stride + d] * factor;
    for (std::int64_t d = head_dim; d < width; ++d) to[i * width + d] = 0;
  }
}

/// to [head_dim, padded(n)] = the transpose of n rows, padded with zeros.
void gather_transposed(std::int64_t n, std::int64_t head_dim, const float* from, std::int64_t stride,
                       float* to) {
  const std::int64_t places = padded(n);
  for (std::int64_t d = 0; d < head_dim; ++d) {
    for (std::int64_t i = 0; i < n; ++i) to[d * places + i] = from[i * stride + d];
    for (std::int64_t i = n; i < places; ++i) to[d * places + i] = 0;
  }
}

/// Adds n padded rows to rows of head_dim floats, `stride` apart.
INFALIGN_VECTORISE
void scatter_add_rows(std::int64_t n, std::int64_t head_dim, std::int64_t width, const float* from, float* to,
                      std::int64_t stride) {
  for (std::int64_t i = 0; i < n; ++i)
#pragma omp simd
    for (std::int64_t d = 0; d < head_dim; ++d) to[i * stride + d] += from[i * width + d];
}

INFALIGN_VECTORISE
void store_scaled(std::int64_t head_dim, const float* from, float factor, float* to) {
#pragma omp simd
  for (std::int64_t d = 0; d < head_dim; ++d) to[d] = from[d] * factor;
}

INFALIGN_VECTORISE
float dot(std::int64_t n, const float* a, const float* b) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/// d_score = probability * (d_probability - along), in place of probability's gradient.
INFALIGN_VECTORISE
void softmax_gradient(std::int64_t n, const float* probability, float along, float* gradient) {
#pragma omp simd
  for (std::int64_t j = 0; j < n; ++j) gradient[j] = probability[j] * (gradient[j] - along);
}

/// The keys and values of some consecutive rows for one head, in the layouts that the products want.
struct KeysValues {
  Buffer<float> keys_transposed, values, values_transposed, keys, d_keys, d_values;
  std::int64_t count = 0;

  void gather_forward(const HeadView& head, const float* qkv, std::int64_t begin, std::int64_t n) {
    count = n;
    keys_transposed.reserve(static_cast<std::size_t>(head.head_dim * padded(n)));
    values.reserve(static_cast<std::size_t>(n * head.width));
    const float* rows = qkv + begin * head.row;
    gather_transposed(n, head.head_dim, rows + head.key, head.row, keys_transposed.data());
    gather_rows(n, head.head_dim, head.width, rows + head.value, head.row, 1.0f, values.data());
  }

  void gather_backward(const HeadView& head, const float* qkv, std::int64_t begin, std::int64_t n) {
    count = n;
    for (Buffer<float>* buffer : {&keys_transposed, &values_transposed})
      buffer->reserve(static_cast<std::size_t>(head.head_dim * padded(n)));
    for (Buffer<float>* buffer : {&keys, &d_keys, &d_values})
      buffer->reserve(static_cast<std::size_t>(n * head.width));
    const float* rows = qkv + begin * head.row;
    gather_transposed(n, head.head_dim, rows + head.key, head.row, keys_transposed.data());
    gather_transposed(n, head.head_dim, rows + head.value, head.row, values_transposed.data());
    gather_rows(n, head.head_dim, head.width, rows + head.key, head.row, 1.0f, keys.data());
    std::fill_n(d_keys.data(), n * head.width, 0.0f);
    std::fill_n(d_values.data(), n * head.width, 0.0f);
  }

  void add_gradients(const HeadView& head, std::int64_t begin, float* d_qkv) const {
    float* rows = d_qkv + begin * head.row;
    scatter_add_rows(count, head.head_dim, head.width, d_keys.data(), rows + head.key, head.row);
    scatter_add_rows(count, head.head_dim, head.width, d_values.data(), rows + head.value, head.row);
  }
};

/// One thread's scratch, reused by all its calls.
struct Scratch {
  KeysValues prefix, own;
  Buffer<float> queries, scores, d_out, d_scores, result;  // [rows, width] or [rows, stride]
  std::vector<float> maximum, sum, log_sum_exp;            // [rows]
  std::vector<std::int32_t> own_length;                    // [rows]
};

Scratch& scratch() {
  static thread_local Scratch reused;
  return reused;
}

/// Query rows of tokens [first, first + tokens) of a segment.
struct QueryBlock {
  std::int64_t begin;  // row in the batch
  std::int64_t tokens;
  std::int64_t rows;    // tokens * group
  std::int64_t prefix;  // keys in the prefix
  std::int64_t own;     // keys of the segment that any of these queries sees
  std::int64_t stride;  // of a row of scores
};

/// Calls body(block) for the blocks of a segment, with own_length (and its scratch) set.
template <class Body>
void for_each_block(const HeadView& head, const Segment& segment, Scratch& s, Body&& body) {
  for (std::int32_t first = 0; first < segment.length; first += kQueryBlock) {
    const std::int64_t tokens = std::min(kQueryBlock, segment.length - first);
    const std::int64_t own = first + tokens;
    const QueryBlock block{.begin = segment.begin + first,
                           .tokens = tokens,
                           .rows = tokens * head.group,
                           .prefix = segment.prefix_length,
                           .own = own,
                           .stride = padded(segment.prefix_length) + padded(own)};
    const auto rows = static_cast<std::size_t>(block.rows);
    s.own_length.resize(rows);
    for (std::size_t r = 0; r < rows; ++r)
      s.own_length[r] = first + 1 + static_cast<std::int32_t>(static_cast<std::int64_t>(r) / head.group);
    s.queries.reserve(rows * static_cast<std::size_t>(head.width));
    s.result.reserve(rows * static_cast<std::size_t>(head.width));
    s.scores.reserve(rows * static_cast<std::size_t>(block.stride));
    body(block);
  }
}

/// to [rows, width]: the group's heads of each token from rows of `from`, times factor.
void gather_block(const HeadView& head, const QueryBlock& block, const float* from, std::int64_t stride,
                  float factor, float* to) {
  for (std::int64_t t = 0; t < block.tokens; ++t)
    gather_rows(head.group, head.head_dim, head.width, from + (block.begin + t) * stride + head.query,
                head.head_dim, factor, to + t * head.group * head.width);
}

/// scores = left [rows, width] x (transposed keys or values), prefix and own part.
void products_with_positions(const HeadView& head, const QueryBlock& block, const float* left,
                             const float* prefix_transposed, const float* own_transposed,
                             std::int64_t own_count, float* scores) {
  const Strided a{left, head.width, 1};
  if (block.prefix > 0)
    tile_product(block.rows, padded(block.prefix), head.head_dim, a, prefix_transposed, padded(block.prefix),
                 Store::kOverwrite, scores, block.stride);
  tile_product(block.rows, padded(block.own), head.head_dim, a, own_transposed, padded(own_count),
               Store::kOverwrite, scores + padded(block.prefix), block.stride);
}

/// result [rows, width] = weights [rows, stride] x (keys or values [positions, width]).
void products_over_positions(const HeadView& head, const QueryBlock& block, const float* weights,
                             const float* prefix, const float* own, float* result) {
  if (block.prefix > 0)
    tile_product(block.rows, head.width, block.prefix, {weights, block.stride, 1}, prefix, head.width,
                 Store::kOverwrite, result, head.width);
  tile_product(block.rows, head.width, block.own, {weights + padded(block.prefix), block.stride, 1}, own,
               head.width, block.prefix > 0 ? Store::kAdd : Store::kOverwrite, result, head.width);
}

/// prefix and own [positions, width] += transpose(weights [rows, stride]) x right [rows, width].
void add_transposed_products(const HeadView& head, const QueryBlock& block, const float* weights,
                             const float* right, float* prefix, float* own) {
  if (block.prefix > 0)
    tile_product(block.prefix, head.width, block.rows, {weights, 1, block.stride}, right, head.width,
                 Store::kAdd, prefix, head.width);
  tile_product(block.own, head.width, block.rows, {weights + padded(block.prefix), 1, block.stride}, right,
               head.width, Store::kAdd, own, head.width);
}

ScoreRows score_rows(const QueryBlock& block, Scratch& s) {
  return {.scores = s.scores.data(),
          .rows = block.rows,
          .stride = block.stride,
          .prefix = block.prefix,
          .own = s.own_length.data()};
}

bool same_prefix(const Segment& a, const Segment& b) {
  return a.prefix_length == b.prefix_length && (a.prefix_length == 0 || a.prefix_begin == b.prefix_begin);
}

void forward_block(const HeadView& head, const QueryBlock& block, Scratch& s, const float* qkv, float* out,
                   float* log_sum_exp) {
  gather_block(head, block, qkv, head.row, head.scale, s.queries.data());
  products_with_positions(head, block, s.queries.data(), s.prefix.keys_transposed.data(),
                          s.own.keys_transposed.data(), s.own.count, s.scores.data());
  s.maximum.resize(static_cast<std::size_t>(block.rows));
  s.sum.resize(static_cast<std::size_t>(block.rows));
  exponentiate_rows(score_rows(block, s), s.maximum.data(), s.sum.data());
  products_over_positions(head, block, s.scores.data(), s.prefix.values.data(), s.own.values.data(),
                          s.result.data());
  for (std::int64_t t = 0; t < block.tokens; ++t)
    for (std::int64_t g = 0; g < head.group; ++g) {
      const std::int64_t r = t * head.group + g, row = block.begin + t;
      const float sum = s.sum[static_cast<std::size_t>(r)];
      store_scaled(head.head_dim, s.result.data() + r * head.width, 1.0f / sum,
                   out + row * head.out_row + head.query + g * head.head_dim);
      log_sum_exp[row * head.heads + head.first_head + g] =
          s.maximum[static_cast<std::size_t>(r)] + std::log(sum);
    }
}

void forward_family(const HeadView& head, std::span<const Segment> segments, const float* qkv, float* out,
                    float* log_sum_exp) {
  Scratch& s = scratch();
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    if (segment.prefix_length > 0 && (i == 0 || !same_prefix(segment, segments[i - 1])))
      s.prefix.gather_forward(head, qkv, segment.prefix_begin, segment.prefix_length);
    s.own.gather_forward(head, qkv, segment.begin, segment.length);
    for_each_block(head, segment, s,
                   [&](const QueryBlock& block) { forward_block(head, block, s, qkv, out, log_sum_exp); });
  }
}

/// With P the probabilities and D = sum_d out d_out of a query: d_score = P (d_out . value - D).
void backward_block(const HeadView& head, const QueryBlock& block, Scratch& s, const float* qkv,
                    const float* out, const float* log_sum_exp, const float* d_out, float* d_qkv) {
  const auto rows = static_cast<std::size_t>(block.rows);
  s.d_out.reserve(rows * static_cast<std::size_t>(head.width));
  s.d_scores.reserve(rows * static_cast<std::size_t>(block.stride));
  s.log_sum_exp.resize(rows);
  gather_block(head, block, qkv, head.row, head.scale, s.queries.data());
  gather_block(head, block, d_out, head.out_row, 1.0f, s.d_out.data());
  for (std::int64_t r = 0; r < block.rows; ++r)
    s.log_sum_exp[static_cast<std::size_t>(r)] =
        log_sum_exp[(block.begin + r / head.group) * head.heads + head.first_head + r % head.group];

  products_with_positions(head, block, s.queries.data(), s.prefix.keys_transposed.data(),
                          s.own.keys_transposed.data(), s.own.count, s.scores.data());
  probability_rows(score_rows(block, s), s.log_sum_exp.data());
  products_with_positions(head, block, s.d_out.data(), s.prefix.values_transposed.data(),
                          s.own.values_transposed.data(), s.own.count, s.d_scores.data());
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const float* attended = out + (block.begin + r / head.group) * head.out_row + head.query;
    const float along =
        dot(head.head_dim, attended + r % head.group * head.head_dim, s.d_out.data() + r * head.width);
    softmax_gradient(block.stride, s.scores.data() + r * block.stride, along,
                     s.d_scores.data() + r * block.stride);
  }

  products_over_positions(head, block, s.d_scores.data(), s.prefix.keys.data(), s.own.keys.data(),
                          s.result.data());
  for (std::int64_t r = 0; r < block.rows; ++r)
    store_scaled(
        head.head_dim, s.result.data() + r * head.width, head.scale,
        d_qkv + (block.begin + r / head.group) * head.row + head.query + r % head.group * head.head_dim);
  add_transposed_products(head, block, s.d_scores.data(), s.queries.data(), s.prefix.d_keys.data(),
                          s.own.d_keys.data());
  add_transposed_products(head, block, s.scores.data(), s.d_out.data(), s.prefix.d_values.data(),
                          s.own.d_values.data());
}

void backward_family(const HeadView& head, std::span<const Segment> segments, const float* qkv,
                     const float* out, const float* log_sum_exp, const float* d_out, float* d_qkv) {
  Scratch& s = scratch();
  for (const Segment& segment : segments)
    for (std::int64_t row = segment.begin; row < segment.begin + segment.length; ++row) {
      std::fill_n(d_qkv + row * head.row + head.key, head.head_dim, 0.0f);
      std::fill_n(d_qkv + row * head.row + head.value, head.head_dim, 0.0f);
    }
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    const bool shares = segment.prefix_length > 0;
    if (shares && (i == 0 || !same_prefix(segment, segments[i - 1])))
      s.prefix.gather_backward(head, qkv, segment.prefix_begin, segment.prefix_length);
    s.own.gather_backward(head, qkv, segment.begin, segment.length);
    for_each_block(head, segment, s, [&](const QueryBlock& block) {
      backward_block(head, block, s, qkv, out, log_sum_exp, d_out, d_qkv);
    });
    s.own.add_gradients(head, segment.begin, d_qkv);
    if (shares && (i + 1 == segments.size() || !same_prefix(segment, segments[i + 1])))
      s.prefix.add_gradients(head, segment.prefix_begin, d_qkv);
  }
}

/// Calls body(head, segments) for every (family, key/value head), shared out over the threads.
template <class Body>
void for_each_item(const AttentionShape& shape, std::span<const Segment> segments, Body&& body) {
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

void attention_forward(const Stream&, const AttentionShape& shape, std::span<const Segment> segments,
                       const float* qkv, float* out, float* log_sum_exp) {
  for_each_item(shape, segments, [&](const HeadView& head, std::span<const Segment> family) {
    forward_family(head, family, qkv, out, log_sum_exp);
  });
}

void attention_backward(const Stream&, const AttentionShape& shape, std::span<const Segment> segments,
                        std::int64_t, const float* qkv, const float* out, const float* log_sum_exp,
                        const float* d_out, float* d_qkv) {
  for_each_item(shape, segments, [&](const HeadView& head, std::span<const Segment> family) {
    backward_family(head, family, qkv, out, log_sum_exp, d_out, d_qkv);
  });
}

}  // namespace infalign::kernels
