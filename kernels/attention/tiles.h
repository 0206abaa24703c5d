// What attention's kernels on a GPU share, whichever cores multiply: how the lanes and keys of packed
// segments are cut into tiles, where a tile's vectors lie, and which keys a lane sees. A lane is a (token,
// query head of the group) pair, token-major, so that a group of heads meets each key once, whatever its
// size.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/scratch.h"
#include "kernels/hyperbolic_tangent.h"

namespace infalign::kernels::cuda {

/// Some consecutive lanes of a segment.
struct LaneTile {
  Segment segment;
  std::int32_t first_lane;
};

/// Some consecutive keys, rows of the batch, and the visits [begin, end) that lanes pay them.
struct KeyTile {
  std::int32_t row, count, begin, end;
};

/// The lanes of a segment that come to see keys [low, high) of a tile, of which number 0 would be number
/// `first_key` among the segment's keys: those of its prefix, then its own.
struct Visit {
  Segment segment;
  std::int32_t first_key, low, high;
};

struct KeyWork {
  std::vector<KeyTile> tiles;
  std::vector<Visit> visits;
};

/// Tiles of up to `lanes` lanes.
std::vector<LaneTile> lane_tiles(const AttentionShape& shape, std::span<const Segment> segments,
                                 std::int32_t lanes);
/// Tiles of up to `keys` keys of all segments, and who visits them: segments in their order.
KeyWork key_work(std::span<const Segment> segments, std::int64_t T, std::int32_t keys);

/// A list made on the CPU, on the device for the length of an operation.
template <class T>
class Uploaded {
 public:
  Uploaded(const Stream& on, const std::vector<T>& from) : on_device_(on, std::ssize(from)) {
    kernels::upload(on, std::span<const T>(from), on_device_.data());
  }
  const T* data() const { return on_device_.data(); }

 private:
  Scratch<T> on_device_;
};

/// Where a lane of a segment lies.
struct Lane {
  std::int64_t row, head, position;  // row of the batch; query head; place among the segment's keys
};

/// One pass over a batch, of values that are stored as T.
template <class T>
struct BasicProblem {
  AttentionShape shape;
  const T *qkv, *d_out;
  const float *log_sum_exp, *along;
  std::uint32_t group = static_cast<std::uint32_t>(shape.heads / shape.kv_heads);

  __device__ Lane lane_of(const Segment& segment, std::int64_t lane, std::int64_t kv_head) const {
    const std::uint32_t token = static_cast<std::uint32_t>(lane) / group;
    return {segment.begin + std::int64_t{token}, kv_head * group + lane - std::int64_t{token} * group,
            segment.prefix_length + std::int64_t{token}};
  }
  __device__ const T* query(const Lane& at) const {
    return qkv + at.row * shape.row() + at.head * shape.head_dim;
  }
  __device__ const T* key(std::int64_t row, std::int64_t kv_head) const {
    return qkv + row * shape.row() + (shape.heads + kv_head) * shape.head_dim;
  }
  __device__ const T* value(std::int64_t row, std::int64_t kv_head) const {
    return key(row, kv_head + shape.kv_heads);
  }
  __device__ const T* gradient(const Lane& at) const {
    return d_out + (at.row * shape.heads + at.head) * shape.head_dim;
  }
  __device__ bool sees(std::int64_t position, std::int64_t key) const {
    return key <= position && (shape.window == 0 || key > position - shape.window);
  }
  /// A score from a product of query and key; and the factor of its gradient on the way back.
  __device__ float score(float product) const {
    const float scaled = product * shape.scale;
    return shape.softcap > 0 ? shape.softcap * hyperbolic_tangent(scaled / shape.softcap) : scaled;
  }
  __device__ float slope(float score) const {
    if (!(shape.softcap > 0)) return shape.scale;
    const float tangent = score / shape.softcap;
    return shape.scale * (1.0f - tangent * tangent);
  }
};

/// The row of the batch that holds key number `key` of a segment.
__device__ inline std::int64_t row_of_key(const Segment& segment, std::int64_t key) {
  return key < segment.prefix_length ? segment.prefix_begin + key
                                     : segment.begin + key - segment.prefix_length;
}

/// Lanes of a tile of up to `most`.
template <class T>
__device__ std::int64_t lanes_of(const BasicProblem<T>& problem, const LaneTile& tile, std::int64_t most) {
  const std::int64_t left = tile.segment.length * std::int64_t{problem.group} - tile.first_lane;
  return left < most ? left : most;
}

/// The keys [begin, end) that any lane of a tile sees.
struct KeyRange {
  std::int64_t begin, end;
  template <class T>
  __device__ KeyRange(const BasicProblem<T>& problem, const LaneTile& tile, std::int64_t lanes) {
    const Lane first = problem.lane_of(tile.segment, tile.first_lane, 0);
    const Lane last = problem.lane_of(tile.segment, tile.first_lane + lanes - 1, 0);
    const std::int64_t window = problem.shape.window;
    begin = window > 0 && first.position >= window ? first.position - window + 1 : 0;
    end = last.position + 1;
  }
};

/// The lanes [begin, end) of a visit's segment that may see a key of the tile: tokens before the first key
/// see none, nor do those a window beyond the last.
struct LaneRange {
  std::int64_t begin, end;
  template <class T>
  __device__ LaneRange(const BasicProblem<T>& problem, const Visit& visit) {
    const Segment& segment = visit.segment;
    const std::int64_t before = visit.first_key + visit.low - segment.prefix_length;
    const std::int64_t beyond =
        visit.first_key + visit.high - 1 + problem.shape.window - segment.prefix_length;
    begin = (before > 0 ? before : 0) * problem.group;
    end = (problem.shape.window > 0 && beyond < segment.length ? beyond : segment.length) * problem.group;
  }
};

/// join of a value of the four neighbouring threads that have a row together.
template <class Join>
__device__ float row_reduce(float value, Join join) {
  value = join(value, __shfl_xor_sync(kAllLanes, value, 1));
  return join(value, __shfl_xor_sync(kAllLanes, value, 2));
}

/// run.template operator()<kHead>() for the first of kHeads that holds the head's dimensions.
template <int... kHeads, class Run>
void for_head(std::int64_t head_dim, Run run) {
  const bool held = ((head_dim <= kHeads && (run.template operator()<kHeads>(), true)) || ...);
  if (!held)
    throw std::invalid_argument("attention on a GPU: heads of " + std::to_string(head_dim) +
                                " dimensions, more than 256");
}

// ---- By tensor cores, in attention_tensor.cu: what attention_forward and attention_backward do with it.

void forward_on_tensor_cores(const Stream& on, const BasicProblem<Bfloat16>& problem,
                             std::span<const Segment> segments, Bfloat16* out, float* log_sum_exp);
void backward_on_tensor_cores(const Stream& on, const BasicProblem<Bfloat16>& problem,
                              std::span<const Segment> segments, std::int64_t T, Bfloat16* d_qkv);

}  // namespace infalign::kernels::cuda
