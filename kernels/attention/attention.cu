// Attention over packed segments on a GPU in the flash manner (Dao et al. 2022): scores stand only as tiles
// of 32 by 32 in shared memory. A tile's rows and columns are keys and lanes (tiles.h). Three kernels share
// the same steps: rows are lanes in the forward pass and for the queries' gradients, keys for the gradients
// of keys and values. Each row of a result has one block, which sums in a fixed order: a block of keys meets
// its own segment and then, in their order, the segments that have it in their prefix.
//
// Here values are float32 and products run on the plain cores; attention_tensor.cu has them in bfloat16.
// Bound: arithmetic, 4 operations a score and dimension forward, 10 backward (and 4 for scores made a second
// time). T = 8192 in one causal segment, 32 heads of 128: 0.55 and 1.9 TFLOP; at the 67 TFLOP/s of an H100,
// of which shared memory lets through about a half: 17 ms and 58 ms.
#include "kernels/attention/attention.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels/attention/tiles.h"
#include "kernels/cuda/each.h"
#include "kernels/cuda/stored.h"
#include "kernels/exponential.h"
#include "kernels/logarithm.h"

namespace infalign::kernels::cuda {
namespace {

using Problem = BasicProblem<float>;

constexpr int kTile = 32;      // rows and columns of a tile of scores
constexpr int kThreads = 128;  // four to a row: each has every fourth column
constexpr int kToRow = kThreads / kTile;
constexpr int kScores = kTile / kToRow;  // of one thread

/// Blocks that a multiprocessor is to hold at once, at least: what registers have to leave room for.
template <int kHead>
constexpr int kBlocks = kHead == 64    ? 3
                        : kHead == 128 ? 2
                                       : 1;

/// Floats of a row of a tile of vectors: four more than its dimensions, so that the rows which a warp reads
/// together lie in different banks.
template <int kHead>
constexpr int kRow = kHead + 4;
/// Of a tile of scores, for the same reason.
constexpr int kScoreRow = kTile + 1;

template <int kHead>
constexpr std::size_t shared_bytes(int vector_tiles, int score_tiles) {
  return static_cast<std::size_t>(vector_tiles * kTile * kRow<kHead> + score_tiles * kTile * kScoreRow) *
         sizeof(float);
}

/// tile [kTile, kRow] = the vectors source(i) of `head_dim` entries for i < count; all else is zero.
template <int kHead, class Source>
__device__ void load_tile(float* tile, std::int64_t head_dim, std::int64_t count, Source source) {
  for (int entry = threadIdx.x; entry < kTile * kHead; entry += kThreads) {
    const int i = entry / kHead, d = entry % kHead;
    tile[i * kRow<kHead> + d] = i < count && d < head_dim ? source(i)[d] : 0.0f;
  }
}

/// product[s] = row . columns[column(s)] of two tiles of vectors, over head_dim rounded up to four.
template <int kHead>
__device__ void dot(const float* row, const float* columns, std::int64_t head_dim,
                    float (&product)[kScores]) {
  const int quarter = threadIdx.x % kToRow;
#pragma unroll
  for (int s = 0; s < kScores; ++s) product[s] = 0;
  for (int d = 0; d < head_dim; d += 4) {
    const float4 a = *reinterpret_cast<const float4*>(row + d);
#pragma unroll
    for (int s = 0; s < kScores; ++s) {
      const float4 b = *reinterpret_cast<const float4*>(columns + (quarter + s * kToRow) * kRow<kHead> + d);
      product[s] += a.x * b.x;
      product[s] += a.y * b.y;
      product[s] += a.z * b.z;
      product[s] += a.w * b.w;
    }
  }
}

/// A thread's part of a row of a result: sixteen dimensions of the row to its four threads, four to each.
template <int kHead>
struct Part {
  float4 of[kHead / 16];

  __device__ void clear() {
#pragma unroll
    for (float4& four : of) four = {0, 0, 0, 0};
  }
  __device__ void scale(float factor) {
#pragma unroll
    for (float4& four : of) four = {four.x * factor, four.y * factor, four.z * factor, four.w * factor};
  }
  /// += weights [kTile] x vectors [kTile, kRow].
  __device__ void add(const float* weights, const float* vectors) {
    const float* from = vectors + threadIdx.x % kToRow * 4;
    for (int j = 0; j < kTile; ++j, from += kRow<kHead>) {
      const float w = weights[j];
#pragma unroll
      for (int i = 0; i < kHead / 16; ++i) {
        const float4 v = *reinterpret_cast<const float4*>(from + 16 * i);
        of[i].x += w * v.x;
        of[i].y += w * v.y;
        of[i].z += w * v.z;
        of[i].w += w * v.w;
      }
    }
  }
  __device__ void store(float* to, std::int64_t head_dim) const {
    const int quarter = threadIdx.x % kToRow;
#pragma unroll
    for (int i = 0; i < kHead / 16; ++i) {
      const float four[4] = {of[i].x, of[i].y, of[i].z, of[i].w};
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (16 * i + 4 * quarter + e < head_dim) to[16 * i + 4 * quarter + e] = four[e];
    }
  }
};

/// The keys and values [first, first + count) that a segment sees.
template <int kHead>
__device__ void load_keys_values(const Problem& problem, const Segment& segment, std::int64_t first,
                                 std::int64_t count, std::int64_t kv_head, float* keys, float* values) {
  const std::int64_t D = problem.shape.head_dim;
  load_tile<kHead>(keys, D, count,
                   [&](int j) { return problem.key(row_of_key(segment, first + j), kv_head); });
  load_tile<kHead>(values, D, count,
                   [&](int j) { return problem.value(row_of_key(segment, first + j), kv_head); });
}

template <int kHead>
__global__ void __launch_bounds__(kThreads, kBlocks<kHead>)
    attention_forward_tile(Problem problem, const LaneTile* tiles, float* out, float* log_sum_exp) {
  INFALIGN_DYNAMIC_SHARED(float, shared);
  float *queries = shared, *keys = queries + kTile * kRow<kHead>, *values = keys + kTile * kRow<kHead>;
  float* weights = values + kTile * kRow<kHead>;  // [kTile, kScoreRow]
  const LaneTile tile = tiles[blockIdx.x];
  const std::int64_t kv_head = blockIdx.y, D = problem.shape.head_dim;
  const std::int64_t lanes = lanes_of(problem, tile, kTile);
  const int r = threadIdx.x / kToRow, quarter = threadIdx.x % kToRow;
  const Lane own = problem.lane_of(tile.segment, tile.first_lane + r, kv_head);
  float* weight = weights + r * kScoreRow;

  load_tile<kHead>(queries, D, lanes, [&](int i) {
    return problem.query(problem.lane_of(tile.segment, tile.first_lane + i, kv_head));
  });
  Part<kHead> result;
  result.clear();
  float most = -INFINITY, sum = 0;
  const KeyRange range(problem, tile, lanes);
  for (std::int64_t first = range.begin; first < range.end; first += kTile) {
    const std::int64_t count = range.end - first < kTile ? range.end - first : kTile;
    if (first > range.begin) __syncthreads();  // the keys and values before have been read
    load_keys_values<kHead>(problem, tile.segment, first, count, kv_head, keys, values);
    __syncthreads();

    float score[kScores];
    dot<kHead>(queries + r * kRow<kHead>, keys, D, score);
    float largest = most;
#pragma unroll
    for (int s = 0; s < kScores; ++s) {
      const int j = quarter + s * kToRow;
      const bool seen = r < lanes && j < count && problem.sees(own.position, first + j);
      score[s] = seen ? problem.score(score[s]) : -INFINITY;
      largest = Maximum()(score[s], largest);
    }
    largest = row_reduce(largest, Maximum());
    float added = 0;
#pragma unroll
    for (int s = 0; s < kScores; ++s) {
      score[s] = score[s] == -INFINITY ? 0.0f : exponential(score[s] - largest);
      added += score[s];
    }
    const float shrink = most == -INFINITY ? 0.0f : exponential(most - largest);
    sum = sum * shrink + row_reduce(added, Sum());
    most = largest;
#pragma unroll
    for (int s = 0; s < kScores; ++s) weight[quarter + s * kToRow] = score[s];
    __syncwarp();  // the row's weights are there
    result.scale(shrink);
    result.add(weight, values);
  }
  if (r >= lanes) return;
  result.scale(1.0f / sum);
  result.store(out + (own.row * problem.shape.heads + own.head) * D, D);
  if (quarter == 0) log_sum_exp[own.row * problem.shape.heads + own.head] = most + logarithm(sum);
}

/// along [T, heads] = sum over d of out d_out: what the softmax's gradient subtracts. A warp a head.
template <class Stored>
__global__ void __launch_bounds__(kEachThreads)
    sum_along(std::int64_t items, std::int64_t head_dim, const Stored* out, const Stored* d_out,
              float* along) {
  const std::int64_t item = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  const unsigned lane = threadIdx.x % kWarp;
  if (item >= items) return;  // the whole warp
  float sum = 0;
  for (std::int64_t d = lane; d < head_dim; d += kWarp)
    sum += widened(out[item * head_dim + d]) * widened(d_out[item * head_dim + d]);
  sum = warp_reduce(sum, Sum());
  if (lane == 0) along[item] = sum;
}

template <int kHead>
__global__ void __launch_bounds__(kThreads, kBlocks<kHead>)
    attention_backward_queries(Problem problem, const LaneTile* tiles, float* d_qkv) {
  INFALIGN_DYNAMIC_SHARED(float, shared);
  constexpr int kVectors = kTile * kRow<kHead>;
  float *queries = shared, *gradients = queries + kVectors, *keys = gradients + kVectors;
  float *values = keys + kVectors, *d_scores = values + kVectors;  // the last [kTile, kScoreRow]
  const LaneTile tile = tiles[blockIdx.x];
  const std::int64_t kv_head = blockIdx.y, D = problem.shape.head_dim;
  const std::int64_t lanes = lanes_of(problem, tile, kTile);
  const int r = threadIdx.x / kToRow, quarter = threadIdx.x % kToRow;
  const Lane own = problem.lane_of(tile.segment, tile.first_lane + r, kv_head);
  const std::int64_t item = own.row * problem.shape.heads + own.head;
  const float log_sum = r < lanes ? problem.log_sum_exp[item] : 0.0f;
  const float along = r < lanes ? problem.along[item] : 0.0f;
  float* d_score = d_scores + r * kScoreRow;

  const auto lane = [&](int i) { return problem.lane_of(tile.segment, tile.first_lane + i, kv_head); };
  load_tile<kHead>(queries, D, lanes, [&](int i) { return problem.query(lane(i)); });
  load_tile<kHead>(gradients, D, lanes, [&](int i) { return problem.gradient(lane(i)); });
  Part<kHead> result;
  result.clear();
  const KeyRange range(problem, tile, lanes);
  for (std::int64_t first = range.begin; first < range.end; first += kTile) {
    const std::int64_t count = range.end - first < kTile ? range.end - first : kTile;
    if (first > range.begin) __syncthreads();  // the keys and values before have been read
    load_keys_values<kHead>(problem, tile.segment, first, count, kv_head, keys, values);
    __syncthreads();

    float score[kScores], gradient[kScores];
    dot<kHead>(queries + r * kRow<kHead>, keys, D, score);
    dot<kHead>(gradients + r * kRow<kHead>, values, D, gradient);
#pragma unroll
    for (int s = 0; s < kScores; ++s) {
      const int j = quarter + s * kToRow;
      const bool seen = r < lanes && j < count && problem.sees(own.position, first + j);
      const float capped = problem.score(score[s]);
      const float p = seen ? exponential(capped - log_sum) : 0.0f;
      d_score[j] = p * (gradient[s] - along) * problem.slope(capped);
    }
    __syncwarp();  // the row's gradients of scores are there
    result.add(d_score, keys);
  }
  if (r < lanes) result.store(d_qkv + own.row * problem.shape.row() + own.head * D, D);
}

template <int kHead>
__global__ void __launch_bounds__(kThreads, kBlocks<kHead>)
    attention_backward_keys(Problem problem, const KeyTile* tiles, const Visit* visits, float* d_qkv) {
  INFALIGN_DYNAMIC_SHARED(float, shared);
  INFALIGN_SHARED(float, log_sums, [kTile]);
  INFALIGN_SHARED(float, alongs, [kTile]);
  constexpr int kVectors = kTile * kRow<kHead>;
  float *keys = shared, *values = keys + kVectors, *queries = values + kVectors;
  float *gradients = queries + kVectors, *weights = gradients + kVectors;
  float* d_scores = weights + kTile * kScoreRow;  // both [kTile, kScoreRow]
  const KeyTile tile = tiles[blockIdx.x];
  const std::int64_t kv_head = blockIdx.y, D = problem.shape.head_dim;
  const int r = threadIdx.x / kToRow, quarter = threadIdx.x % kToRow;
  float *weight = weights + r * kScoreRow, *d_score = d_scores + r * kScoreRow;

  load_tile<kHead>(keys, D, tile.count, [&](int i) { return problem.key(tile.row + i, kv_head); });
  load_tile<kHead>(values, D, tile.count, [&](int i) { return problem.value(tile.row + i, kv_head); });
  Part<kHead> d_key, d_value;
  d_key.clear();
  d_value.clear();
  bool first_tile = true;
  for (std::int32_t v = tile.begin; v < tile.end; ++v) {
    const Visit visit = visits[v];
    const Segment& segment = visit.segment;
    const LaneRange range(problem, visit);
    for (std::int64_t first = range.begin; first < range.end; first += kTile) {
      const std::int64_t count = range.end - first < kTile ? range.end - first : kTile;
      const auto lane = [&](int i) { return problem.lane_of(segment, first + i, kv_head); };
      if (!first_tile) __syncthreads();  // the lanes before have been read
      first_tile = false;
      load_tile<kHead>(queries, D, count, [&](int i) { return problem.query(lane(i)); });
      load_tile<kHead>(gradients, D, count, [&](int i) { return problem.gradient(lane(i)); });
      if (threadIdx.x < count) {
        const Lane at = lane(static_cast<int>(threadIdx.x));
        log_sums[threadIdx.x] = problem.log_sum_exp[at.row * problem.shape.heads + at.head];
        alongs[threadIdx.x] = problem.along[at.row * problem.shape.heads + at.head];
      }
      __syncthreads();

      float score[kScores], gradient[kScores];
      dot<kHead>(keys + r * kRow<kHead>, queries, D, score);
      dot<kHead>(values + r * kRow<kHead>, gradients, D, gradient);
#pragma unroll
      for (int s = 0; s < kScores; ++s) {
        const int j = quarter + s * kToRow;
        const bool seen = j < count && r >= visit.low && r < visit.high &&
                          problem.sees(lane(j).position, visit.first_key + r);
        const float capped = problem.score(score[s]);
        const float p = seen ? exponential(capped - log_sums[j]) : 0.0f;
        weight[j] = p;
        d_score[j] = seen ? p * (gradient[s] - alongs[j]) * problem.slope(capped) : 0.0f;
      }
      __syncwarp();  // the row's weights and gradients of scores are there
      d_key.add(d_score, queries);
      d_value.add(weight, gradients);
    }
  }
  if (r >= tile.count) return;
  float* to = d_qkv + (tile.row + r) * problem.shape.row() + (problem.shape.heads + kv_head) * D;
  d_key.store(to, D);
  d_value.store(to + problem.shape.kv_heads * D, D);
}

void forward_on_plain_cores(const Stream& on, const Problem& problem, std::span<const Segment> segments,
                            float* out, float* log_sum_exp) {
  const AttentionShape& shape = problem.shape;
  const std::vector<LaneTile> list = lane_tiles(shape, segments, kTile);
  const Uploaded<LaneTile> tiles(on, list);
  for_head<64, 128, 256>(shape.head_dim, [&]<int kHead>() {
    launch(on, attention_forward_tile<kHead>, dim3(as_grid(std::ssize(list)), as_grid(shape.kv_heads)),
           kThreads, shared_bytes<kHead>(3, 1), problem, tiles.data(), out, log_sum_exp);
  });
}

void backward_on_plain_cores(const Stream& on, const Problem& problem, std::span<const Segment> segments,
                             std::int64_t T, float* d_qkv) {
  const AttentionShape& shape = problem.shape;
  const std::vector<LaneTile> lanes = lane_tiles(shape, segments, kTile);
  const KeyWork keys = key_work(segments, T, kTile);
  const Uploaded<LaneTile> lane_list(on, lanes);
  const Uploaded<KeyTile> key_list(on, keys.tiles);
  const Uploaded<Visit> visits(on, keys.visits);
  for_head<64, 128, 256>(shape.head_dim, [&]<int kHead>() {
    launch(on, attention_backward_queries<kHead>, dim3(as_grid(std::ssize(lanes)), as_grid(shape.kv_heads)),
           kThreads, shared_bytes<kHead>(4, 1), problem, lane_list.data(), d_qkv);
    launch(on, attention_backward_keys<kHead>, dim3(as_grid(std::ssize(keys.tiles)), as_grid(shape.kv_heads)),
           kThreads, shared_bytes<kHead>(4, 2), problem, key_list.data(), visits.data(), d_qkv);
  });
}

}  // namespace

std::vector<LaneTile> lane_tiles(const AttentionShape& shape, std::span<const Segment> segments,
                                 std::int32_t lanes) {
  const std::int64_t group = shape.heads / shape.kv_heads;
  std::vector<LaneTile> tiles;
  for (const Segment& segment : segments)
    for (std::int64_t lane = 0; lane < segment.length * group; lane += lanes)
      tiles.push_back({segment, static_cast<std::int32_t>(lane)});
  return tiles;
}

KeyWork key_work(std::span<const Segment> segments, std::int64_t T, std::int32_t keys) {
  KeyWork work;
  std::vector<std::size_t> tile_of(static_cast<std::size_t>(T));
  for (const Segment& segment : segments)
    for (std::int32_t at = 0; at < segment.length; at += keys) {
      const std::int32_t count = std::min(keys, segment.length - at), row = segment.begin + at;
      std::fill_n(tile_of.begin() + row, count, work.tiles.size());
      work.tiles.push_back({row, count, 0, 0});
    }
  std::vector<std::vector<Visit>> of_tile(work.tiles.size());
  // The keys are rows [begin, begin + length), numbers `first_key` and on of the segment's.
  const auto visit = [&](const Segment& segment, std::int32_t begin, std::int32_t length,
                         std::int32_t first_key) {
    for (std::int32_t row = begin; row < begin + length;) {
      const std::size_t at = tile_of[static_cast<std::size_t>(row)];
      const KeyTile& tile = work.tiles[at];
      const std::int32_t end = std::min(tile.row + tile.count, begin + length);
      of_tile[at].push_back({segment, first_key + tile.row - begin, row - tile.row, end - tile.row});
      row = end;
    }
  };
  for (const Segment& segment : segments) {
    if (segment.prefix_length > 0) visit(segment, segment.prefix_begin, segment.prefix_length, 0);
    visit(segment, segment.begin, segment.length, segment.prefix_length);
  }
  for (std::size_t i = 0; i < work.tiles.size(); ++i) {
    work.tiles[i].begin = static_cast<std::int32_t>(work.visits.size());
    work.visits.insert(work.visits.end(), of_tile[i].begin(), of_tile[i].end());
    work.tiles[i].end = static_cast<std::int32_t>(work.visits.size());
  }
  return work;
}

void attention_forward(const Stream& on, const AttentionShape& shape, std::span<const Segment> segments,
                       ConstValues qkv, Values out, float* log_sum_exp) {
  with_stored(qkv.stored(), [&]<class Stored>() {
    const BasicProblem<Stored> problem{shape, qkv.as<Stored>(), nullptr, nullptr, nullptr};
    if constexpr (std::is_same_v<Stored, Bfloat16>)
      forward_on_tensor_cores(on, problem, segments, out.as<Bfloat16>(), log_sum_exp);
    else
      forward_on_plain_cores(on, problem, segments, out.floats(), log_sum_exp);
  });
}

void attention_backward(const Stream& on, const AttentionShape& shape, std::span<const Segment> segments,
                        std::int64_t T, ConstValues qkv, ConstValues out, const float* log_sum_exp,
                        ConstValues d_out, Values d_qkv) {
  const std::int64_t items = T * shape.heads;
  const Scratch<float> along(on, items);
  with_stored(qkv.stored(), [&]<class Stored>() {
    const Stored* gradient = d_out.as<Stored>();
    launch(on, sum_along<Stored>, as_grid(pieces(items * kWarp, kEachThreads)), kEachThreads, 0, items,
           shape.head_dim, out.as<Stored>(), gradient, along.data());
    const BasicProblem<Stored> problem{shape, qkv.as<Stored>(), gradient, log_sum_exp, along.data()};
    if constexpr (std::is_same_v<Stored, Bfloat16>)
      backward_on_tensor_cores(on, problem, segments, T, d_qkv.as<Bfloat16>());
    else
      backward_on_plain_cores(on, problem, segments, T, d_qkv.floats());
  });
}

}  // namespace infalign::kernels::cuda
