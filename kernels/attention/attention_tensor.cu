// Attention over packed segments through a GPU's tensor cores, in the manner of attention.cu: the same three
// kernels, and the same order of sums, of values that are stored in bfloat16. A
// warp has 16 rows of a tile, whose scores, weights and results stay in its registers, in float32, from one
// product to the next: sums lie there as the left factor of the next product is to lie.
//
// Bound: tensor cores, for the operations of attention.cu: 0.55 and 1.9 TFLOP at T = 8192 in one causal
// segment, 32 heads of 128 (8 of keys), which is 0.6 and 1.9 ms at the 989 TFLOP/s of an H100. It stays far
// from that. mma.sync reaches some 60 %; what a warp reads of the right factor from shared memory serves 16
// rows only, which ends at 45 %, 1.2 and 4.3 ms; and tiles come from the L2 cache, 5.5 GB forward and 14.5 GB
// backward, which takes 1.0 and 2.6 ms at 5.5 TB/s. As a block waits for its tiles while another of the
// multiprocessor computes, most of this overlaps: 1.5 and 5 ms.
#include <vector>

#include "kernels/attention/tiles.h"
#include "kernels/cuda/each.h"
#include "kernels/cuda/stored.h"
#include "kernels/cuda/tensor_cores.h"
#include "kernels/logarithm.h"

namespace infalign::kernels::cuda {
namespace {

using Problem = BasicProblem<Bfloat16>;

constexpr int kWarpRows = 16;  // rows of a tile of scores that a warp has
constexpr int kColumns = 32;   // of a tile of scores
constexpr float kLog2E = 1.44269504f;

/// Warps of a block whose rows are lanes: as many as registers allow, for each block reads all keys. And of
/// one whose rows are keys.
template <int kHead>
constexpr int kLaneWarps = kHead <= 80    ? 8
                           : kHead <= 128 ? 6
                                          : 4;
constexpr int kKeyWarps = 4;

/// Blocks that a multiprocessor is to hold at once, at least: what registers have to leave room for.
constexpr int kBlocks = 2;

/// Dimensions of the keys' and values' gradients that a block has: registers do not hold both of more.
template <int kHead>
constexpr int kPart = kHead <= 128 ? kHead : kHead / 2;

/// Entries of a row of a tile of vectors: eight more than its dimensions, so that the eight rows of a matrix
/// that a warp loads lie in different banks.
template <int kHead>
constexpr int kRow = kHead + 8;

template <int kHead>
constexpr std::size_t shared_bytes(int row_tiles, int rows, int column_tiles) {
  return static_cast<std::size_t>(row_tiles * rows + column_tiles * kColumns) * kRow<kHead> *
         sizeof(Bfloat16);
}

/// A warp's part of a tile of scores: fragments of sums, eight columns each. Of each, a thread has entries 0
/// and 1 in its first row, 2 and 3 in its second, at neighbouring columns.
using Scores = float[kColumns / 8][4];
/// Its part of a result, eight dimensions to a fragment.
template <int kDimensions>
using Result = float[kDimensions / 8][4];

/// The thread's first row of a block's tile; the second is eight further on.
__device__ int first_row() {
  return static_cast<int>(threadIdx.x / kWarp * kWarpRows + threadIdx.x % kWarp / 4);
}
/// The column of entry e of a fragment, the first of which begins at 0.
__device__ int column_of(int fragment, int e) {
  return 8 * fragment + static_cast<int>(threadIdx.x % 4) * 2 + e % 2;
}

/// Entries [d, d + 8) of a vector of `size`, a pair to a register; zero beyond it.
__device__ uint4 eight_of(const Bfloat16* vector, int d, int size) {
  if (d + 8 <= size && reinterpret_cast<std::uintptr_t>(vector + d) % sizeof(uint4) == 0)
    return *reinterpret_cast<const uint4*>(vector + d);
  const auto pair = [&](int at) {
    const std::uint32_t first = at < size ? vector[at] : 0, second = at + 1 < size ? vector[at + 1] : 0;
    return first | second << 16;
  };
  return {pair(d), pair(d + 2), pair(d + 4), pair(d + 6)};
}

/// tile [kVectors, kRow] = the vectors source(i) of `head_dim` entries for i < count; all else is zero. Two
/// reads of a thread are under way together.
template <int kHead, int kVectors, int kThreads, class Source>
__device__ void load_tile(Bfloat16* tile, int head_dim, std::int64_t count, Source source) {
  const auto there = static_cast<int>(count < kVectors ? count : kVectors);
  constexpr int kTogether = 2, kEights = kHead / 8, kEntries = kVectors * kEights;
#pragma unroll 1
  for (int first = static_cast<int>(threadIdx.x); first < kEntries; first += kTogether * kThreads) {
    uint4 eight[kTogether];
#pragma unroll
    for (int t = 0; t < kTogether; ++t) {
      const int i = (first + t * kThreads) / kEights, d = (first + t * kThreads) % kEights * 8;
      eight[t] = {0, 0, 0, 0};
      if (i < there) eight[t] = eight_of(source(i), d, head_dim);
    }
#pragma unroll
    for (int t = 0; t < kTogether; ++t) {
      const int i = (first + t * kThreads) / kEights, d = (first + t * kThreads) % kEights * 8;
      if (i < kVectors) *reinterpret_cast<uint4*>(tile + i * kRow<kHead> + d) = eight[t];
    }
  }
}

/// score = rows of the warp, of a tile of them, times columns [kColumns] transposed.
template <int kHead>
__device__ void multiply(const Bfloat16* rows, const Bfloat16* columns, Scores& score) {
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  // Matrices: left, upper and lower rows, then both from dimension 8; right, dimensions 0 and 8 of the first
  // eight columns, then of the next.
  const Bfloat16* row = rows + (warp * kWarpRows + lane % 16) * kRow<kHead> + lane / 16 * 8;
  const Bfloat16* column = columns + (lane / 16 * 8 + lane % 8) * kRow<kHead> + lane / 8 % 2 * 8;
#pragma unroll
  for (auto& fragment : score)
    for (float& sum : fragment) sum = 0;
#pragma unroll
  for (int d = 0; d < kHead; d += 16) {
    std::uint32_t left[4];
    load_matrices(row + d, left);
#pragma unroll
    for (int j = 0; j < kColumns; j += 16) {
      std::uint32_t right[4];
      load_matrices(column + j * kRow<kHead> + d, right);
      multiply_add(left, right[0], right[1], score[j / 8]);
      multiply_add(left, right[2], right[3], score[j / 8 + 1]);
    }
  }
}

/// result += weights, rounded, times vectors [kColumns], from the dimension on at which `vectors` points.
template <int kHead, int kDimensions>
__device__ void add(const Scores& weights, const Bfloat16* vectors, Result<kDimensions>& result) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  // Matrices: vectors 0 and 8 from dimension 0, then from 8.
  const Bfloat16* vector = vectors + lane % 16 * kRow<kHead> + lane / 16 * 8;
#pragma unroll
  for (int j = 0; j < kColumns; j += 16) {
    const float(&first)[4] = weights[j / 8], (&second)[4] = weights[j / 8 + 1];
    const std::uint32_t left[4] = {bfloat16_pair(first[0], first[1]), bfloat16_pair(first[2], first[3]),
                                   bfloat16_pair(second[0], second[1]), bfloat16_pair(second[2], second[3])};
#pragma unroll
    for (int d = 0; d < kDimensions; d += 16) {
      std::uint32_t right[4];
      load_transposed(vector + j * kRow<kHead> + d, right);
      multiply_add(left, right[0], right[1], result[d / 8]);
      multiply_add(left, right[2], right[3], result[d / 8 + 1]);
    }
  }
}

/// The thread's part of one of its rows, times `factor`: entries from dimension `begin` on of a vector of
/// `size`.
template <int kDimensions>
__device__ void store(const Result<kDimensions>& result, int half, float factor, int begin, int size,
                      Bfloat16* to) {
#pragma unroll
  for (int n = 0; n < kDimensions / 8; ++n) {
    const int d = begin + column_of(n, 0);
    const float first = result[n][2 * half] * factor, second = result[n][2 * half + 1] * factor;
    if (d + 1 < size && reinterpret_cast<std::uintptr_t>(to + d) % sizeof(std::uint32_t) == 0) {
      *reinterpret_cast<std::uint32_t*>(to + d) = bfloat16_pair(first, second);
    } else {
      if (d < size) put(to[d], first);
      if (d + 1 < size) put(to[d + 1], second);
    }
  }
}

/// Keys number [oldest, latest], counted from `first`, are those that a lane sees.
struct Seen {
  int oldest, latest;
  __device__ Seen(const Problem& problem, int position, int first)
      : oldest(problem.shape.window > 0 ? position - static_cast<int>(problem.shape.window) + 1 - first : 0),
        latest(position - first) {}
  __device__ bool operator()(int key) const { return key >= oldest && key <= latest; }
};

/// What the kernels whose rows are lanes know of their tile, and the position of each of the thread's lanes.
template <int kHead>
struct Lanes {
  static constexpr int kRows = kLaneWarps<kHead> * kWarpRows, kThreads = kLaneWarps<kHead> * kWarp;
  const Problem& problem;
  const LaneTile tile;
  const int kv_head, count;
  int position[2], last;  // last: of the warp's lanes, which see no key beyond it

  __device__ Lanes(const Problem& of, const LaneTile& which)
      : problem(of),
        tile(which),
        kv_head(static_cast<int>(blockIdx.y)),
        count(static_cast<int>(lanes_of(of, which, kRows))) {
    const int begin = static_cast<int>(threadIdx.x / kWarp) * kWarpRows, end = begin + kWarpRows;
#pragma unroll
    for (int half = 0; half < 2; ++half) position[half] = position_of(first_row() + 8 * half);
    last = begin < count ? position_of(end < count ? end - 1 : count - 1) : -1;
  }
  __device__ Lane operator[](int i) const {
    return problem.lane_of(tile.segment, tile.first_lane + i, kv_head);
  }
  __device__ int position_of(int i) const { return static_cast<int>((*this)[i].position); }

  /// Loads the keys and values that any lane sees, a tile at a time, and calls visit(first), key number
  /// `first` being the tile's first, where the warp's lanes see some of it.
  template <class Visit>
  __device__ void for_each_tile(Bfloat16* keys, Bfloat16* values, Visit visit) const {
    const KeyRange range(problem, tile, count);
    const int begin = static_cast<int>(range.begin), end = static_cast<int>(range.end);
    for (int first = begin; first < end; first += kColumns) {
      if (first > begin) __syncthreads();  // the keys and values before have been read
      load(first, end - first, keys, values);
      __syncthreads();
      if (first <= last) visit(first);
    }
  }

 private:
  /// The keys and values from number `first` on, of `left`.
  __device__ void load(int first, int left, Bfloat16* keys, Bfloat16* values) const {
    const auto row = [&](int j) { return row_of_key(tile.segment, first + j); };
    const int D = static_cast<int>(problem.shape.head_dim);
    load_tile<kHead, kColumns, kThreads>(keys, D, left, [&](int j) { return problem.key(row(j), kv_head); });
    load_tile<kHead, kColumns, kThreads>(values, D, left,
                                         [&](int j) { return problem.value(row(j), kv_head); });
  }
};

// Lanes and keys that are not there, at the end of a tile, are zero vectors, so their scores are numbers.
// What comes of such lanes is not stored, and no lane sees such keys.
template <int kHead>
__global__ void __launch_bounds__(kLaneWarps<kHead>* kWarp, kBlocks)
    tensor_forward(Problem problem, const LaneTile* tiles, Bfloat16* out, float* log_sum_exp) {
  using Rows = Lanes<kHead>;
  INFALIGN_DYNAMIC_SHARED(Bfloat16, queries);
  Bfloat16 *keys = queries + Rows::kRows * kRow<kHead>, *values = keys + kColumns * kRow<kHead>;
  const Rows lanes(problem, tiles[blockIdx.x]);
  const int D = static_cast<int>(problem.shape.head_dim);

  load_tile<kHead, Rows::kRows, Rows::kThreads>(queries, D, lanes.count,
                                                [&](int i) { return problem.query(lanes[i]); });
  Result<kHead> result = {};
  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};  // the sum is of this thread's columns
  lanes.for_each_tile(keys, values, [&](int first) {
    Scores score;
    multiply<kHead>(queries, keys, score);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Seen seen(problem, lanes.position[half], first);
      float largest = most[half];
#pragma unroll
      for (int t = 0; t < kColumns / 8; ++t)
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          score[t][e] = seen(column_of(t, e)) ? problem.score(score[t][e]) : -INFINITY;
          largest = Maximum()(score[t][e], largest);
        }
      largest = row_reduce(largest, Maximum());
      const float base = largest == -INFINITY ? 0.0f : largest;
      const float shrink = exp2f((most[half] - base) * kLog2E);
      most[half] = largest;
      sum[half] *= shrink;
#pragma unroll
      for (int t = 0; t < kColumns / 8; ++t)
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          score[t][e] = exp2f((score[t][e] - base) * kLog2E);
          sum[half] += score[t][e];
        }
#pragma unroll
      for (auto& fragment : result) {
        fragment[2 * half] *= shrink;
        fragment[2 * half + 1] *= shrink;
      }
    }
    add<kHead, kHead>(score, values, result);
  });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = row_reduce(sum[half], Sum());
    if (first_row() + 8 * half >= lanes.count) continue;
    const Lane own = lanes[first_row() + 8 * half];
    const std::int64_t item = own.row * problem.shape.heads + own.head;
    store<kHead>(result, half, 1.0f / total, 0, D, out + item * D);
    if (threadIdx.x % 4 == 0) log_sum_exp[item] = most[half] + logarithm(total);
  }
}

template <int kHead>
__global__ void __launch_bounds__(kLaneWarps<kHead>* kWarp, kBlocks)
    tensor_backward_queries(Problem problem, const LaneTile* tiles, Bfloat16* d_qkv) {
  using Rows = Lanes<kHead>;
  INFALIGN_DYNAMIC_SHARED(Bfloat16, queries);
  Bfloat16 *gradients = queries + Rows::kRows * kRow<kHead>, *keys = gradients + Rows::kRows * kRow<kHead>;
  Bfloat16* values = keys + kColumns * kRow<kHead>;
  const Rows lanes(problem, tiles[blockIdx.x]);
  const int D = static_cast<int>(problem.shape.head_dim);

  load_tile<kHead, Rows::kRows, Rows::kThreads>(queries, D, lanes.count,
                                                [&](int i) { return problem.query(lanes[i]); });
  load_tile<kHead, Rows::kRows, Rows::kThreads>(gradients, D, lanes.count,
                                                [&](int i) { return problem.gradient(lanes[i]); });
  float log_sum[2] = {0, 0}, along[2] = {0, 0};
#pragma unroll
  for (int half = 0; half < 2; ++half)
    if (first_row() + 8 * half < lanes.count) {
      const Lane own = lanes[first_row() + 8 * half];
      log_sum[half] = problem.log_sum_exp[own.row * problem.shape.heads + own.head];
      along[half] = problem.along[own.row * problem.shape.heads + own.head];
    }
  Result<kHead> result = {};
  lanes.for_each_tile(keys, values, [&](int first) {
    Scores score, gradient;
    multiply<kHead>(queries, keys, score);
    multiply<kHead>(gradients, values, gradient);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Seen seen(problem, lanes.position[half], first);
#pragma unroll
      for (int t = 0; t < kColumns / 8; ++t)
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          const float capped = problem.score(score[t][e]);
          const float p = seen(column_of(t, e)) ? exp2f((capped - log_sum[half]) * kLog2E) : 0.0f;
          gradient[t][e] = p * (gradient[t][e] - along[half]) * problem.slope(capped);
        }
    }
    add<kHead, kHead>(gradient, keys, result);
  });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (first_row() + 8 * half >= lanes.count) continue;
    const Lane own = lanes[first_row() + 8 * half];
    store<kHead>(result, half, 1, 0, D, d_qkv + own.row * problem.shape.row() + own.head * D);
  }
}

template <int kHead>
__global__ void __launch_bounds__(kKeyWarps* kWarp, kBlocks)
    tensor_backward_keys(Problem problem, const KeyTile* tiles, const Visit* visits, Bfloat16* d_qkv) {
  constexpr int kRows = kKeyWarps * kWarpRows, kThreads = kKeyWarps * kWarp;
  INFALIGN_DYNAMIC_SHARED(Bfloat16, keys);
  INFALIGN_SHARED(float, log_sums, [kColumns]);
  INFALIGN_SHARED(float, alongs, [kColumns]);
  INFALIGN_SHARED(int, positions, [kColumns]);
  Bfloat16 *values = keys + kRows * kRow<kHead>, *queries = values + kRows * kRow<kHead>;
  Bfloat16* gradients = queries + kColumns * kRow<kHead>;
  const KeyTile tile = tiles[blockIdx.x];
  const std::int64_t kv_head = blockIdx.y;
  const int D = static_cast<int>(problem.shape.head_dim);
  const int part = static_cast<int>(blockIdx.z) * kPart<kHead>;
  const int warp_row = static_cast<int>(threadIdx.x / kWarp) * kWarpRows;

  load_tile<kHead, kRows, kThreads>(keys, D, tile.count,
                                    [&](int i) { return problem.key(tile.row + i, kv_head); });
  load_tile<kHead, kRows, kThreads>(values, D, tile.count,
                                    [&](int i) { return problem.value(tile.row + i, kv_head); });
  Result<kPart<kHead>> d_key = {}, d_value = {};
  bool first_tile = true;
  for (std::int32_t v = tile.begin; v < tile.end; ++v) {
    const Visit visit = visits[v];
    const LaneRange range(problem, visit);
    for (std::int64_t first = range.begin; first < range.end; first += kColumns) {
      const std::int64_t count = range.end - first;
      const auto lane = [&](int i) { return problem.lane_of(visit.segment, first + i, kv_head); };
      if (!first_tile) __syncthreads();  // the lanes before have been read
      first_tile = false;
      load_tile<kHead, kColumns, kThreads>(queries, D, count, [&](int i) { return problem.query(lane(i)); });
      load_tile<kHead, kColumns, kThreads>(gradients, D, count,
                                           [&](int i) { return problem.gradient(lane(i)); });
      if (threadIdx.x < kColumns) {
        const Lane at = lane(static_cast<int>(threadIdx.x));
        const bool there = threadIdx.x < count;
        const std::int64_t item = at.row * problem.shape.heads + at.head;
        log_sums[threadIdx.x] = there ? problem.log_sum_exp[item] : INFINITY;  // its weights will be 0
        alongs[threadIdx.x] = there ? problem.along[item] : 0.0f;
        positions[threadIdx.x] = static_cast<int>(at.position) - visit.first_key;
      }
      __syncthreads();
      if (visit.high <= warp_row || visit.low >= warp_row + kWarpRows) continue;

      Scores score, gradient;
      multiply<kHead>(keys, queries, score);
      multiply<kHead>(values, gradients, gradient);
#pragma unroll
      for (int t = 0; t < kColumns / 8; ++t)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int r = first_row() + e / 2 * 8, j = column_of(t, e);
          const bool seen = r >= visit.low && r < visit.high && Seen(problem, positions[j], 0)(r);
          const float capped = problem.score(score[t][e]);
          const float p = seen ? exp2f((capped - log_sums[j]) * kLog2E) : 0.0f;
          score[t][e] = p;
          gradient[t][e] = p * (gradient[t][e] - alongs[j]) * problem.slope(capped);
        }
      add<kHead, kPart<kHead>>(gradient, queries + part, d_key);
      add<kHead, kPart<kHead>>(score, gradients + part, d_value);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = first_row() + 8 * half;
    if (r >= tile.count) continue;
    Bfloat16* to = d_qkv + (tile.row + r) * problem.shape.row() + (problem.shape.heads + kv_head) * D;
    store<kPart<kHead>>(d_key, half, 1, part, D, to);
    store<kPart<kHead>>(d_value, half, 1, part, D, to + problem.shape.kv_heads * D);
  }
}

}  // namespace

void forward_on_tensor_cores(const Stream& on, const Problem& problem, std::span<const Segment> segments,
                             Bfloat16* out, float* log_sum_exp) {
  const AttentionShape& shape = problem.shape;
  for_head<64, 80, 96, 128, 256>(shape.head_dim, [&]<int kHead>() {
    using Rows = Lanes<kHead>;
    const std::vector<LaneTile> list = lane_tiles(shape, segments, Rows::kRows);
    const Uploaded<LaneTile> tiles(on, list);
    launch(on, tensor_forward<kHead>, dim3(as_grid(std::ssize(list)), as_grid(shape.kv_heads)),
           Rows::kThreads, shared_bytes<kHead>(1, Rows::kRows, 2), problem, tiles.data(), out, log_sum_exp);
  });
}

void backward_on_tensor_cores(const Stream& on, const Problem& problem, std::span<const Segment> segments,
                              std::int64_t T, Bfloat16* d_qkv) {
  const AttentionShape& shape = problem.shape;
  for_head<64, 80, 96, 128, 256>(shape.head_dim, [&]<int kHead>() {
    using Rows = Lanes<kHead>;
    constexpr int kKeys = kKeyWarps * kWarpRows;
    const std::vector<LaneTile> lanes = lane_tiles(shape, segments, Rows::kRows);
    const KeyWork keys = key_work(segments, T, kKeys);
    const Uploaded<LaneTile> lane_list(on, lanes);
    const Uploaded<KeyTile> key_list(on, keys.tiles);
    const Uploaded<Visit> visits(on, keys.visits);
    launch(on, tensor_backward_queries<kHead>, dim3(as_grid(std::ssize(lanes)), as_grid(shape.kv_heads)),
           Rows::kThreads, shared_bytes<kHead>(2, Rows::kRows, 2), problem, lane_list.data(), d_qkv);
    launch(on, tensor_backward_keys<kHead>,
           dim3(as_grid(std::ssize(keys.tiles)), as_grid(shape.kv_heads), kHead / kPart<kHead>),
           kKeyWarps * kWarp, shared_bytes<kHead>(2, kKeys, 2), problem, key_list.data(), visits.data(),
           d_qkv);
  });
}

}  // namespace infalign::kernels::cuda
