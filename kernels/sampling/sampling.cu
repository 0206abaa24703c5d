// Sampling on a GPU, a block a row, by the CPU's inversion: weights are summed in chunks of 128, and the
// chunk that the uniform number falls into is gone through one by one. Bound: memory; 512 rows of V = 128256
// (263 MB, read twice, the chosen chunk a third time) on an H100 at 3.0 TB/s: 0.18 ms. The nucleus is found
// by bisection of its lightest weight, 30 more readings; only top_p < 1 pays them.
#include "kernels/sampling/sampling.h"

#include "kernels/cuda/each.h"
#include "kernels/cuda/reduce.h"
#include "kernels/exponential.h"

namespace infalign::kernels::cuda {
namespace {

constexpr std::int64_t kChunk = 128;  // entries summed in float32; chunks are summed in float64
constexpr int kBlocks = 4;            // of a multiprocessor: left to itself, ptxas spills on sm_100

/// One row and its temperature, to speak of its weights exp((logit - most) * inverse_temperature), of which
/// those outside the nucleus are 0: those lighter than `cut`, and of those exactly as heavy the ones beyond
/// `last_tied`.
struct Row {
  const float* logits;
  std::int64_t V;
  float most, inverse_temperature;
  float cut;
  std::int64_t last_tied;

  __device__ float weight(std::int64_t v) const {
    const float w = exponential((logits[v] - most) * inverse_temperature);
    return w < cut || (w == cut && v > last_tied) ? 0.0f : w;
  }
  __device__ std::int64_t chunks() const { return (V + kChunk - 1) / kChunk; }
};

/// The sum over all entries of what `term` makes of a weight; `partial` as for block_reduce.
template <class Term>
__device__ double sum_over(const Row& row, double* partial, Term term) {
  double sum = 0;
  for (std::int64_t v = threadIdx.x; v < row.V; v += blockDim.x) sum += term(row.weight(v));
  return block_reduce(sum, Sum(), 0.0, partial);
}

/// The total of the weights; those of the chunks into chunk_sum, which all threads may read.
__device__ double chunk_sums(const Row& row, double* chunk_sum, double* partial) {
  const std::int64_t lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
  double total = 0;
  for (std::int64_t chunk = threadIdx.x / kWarp; chunk < row.chunks(); chunk += warps) {
    const std::int64_t begin = chunk * kChunk, end = begin + kChunk < row.V ? begin + kChunk : row.V;
    float sum = 0;
    for (std::int64_t v = begin + lane; v < end; v += kWarp) sum += row.weight(v);
    sum = warp_reduce(sum, Sum());
    if (lane == 0) {
      chunk_sum[chunk] = static_cast<double>(sum);
      total += static_cast<double>(sum);
    }
  }
  return block_reduce(total, Sum(), 0.0, partial);
}

/// The first token at which the cumulative weight exceeds `goal`, else (goal lost to rounding) the last of
/// any weight. For one thread.
__device__ std::int64_t invert(const Row& row, const double* chunk_sum, double goal) {
  std::int64_t chosen = 0;
  double before = 0, cumulative = 0;  // weight of the chunks before the chosen one, and with it
  for (std::int64_t chunk = 0; chunk < row.chunks(); ++chunk) {
    if (!(chunk_sum[chunk] > 0)) continue;
    chosen = chunk;
    before = cumulative;
    cumulative += chunk_sum[chunk];
    if (cumulative > goal) break;
  }
  std::int64_t token = chosen * kChunk;
  const std::int64_t end = token + kChunk < row.V ? token + kChunk : row.V;
  for (std::int64_t v = token; v < end; ++v) {
    const float w = row.weight(v);
    if (!(w > 0)) continue;
    token = v;
    before += static_cast<double>(w);
    if (before > goal) break;
  }
  return token;
}

/// Narrows the row to the smallest set of likeliest tokens that weighs `goal` or more. `partial` holds two
/// arrays for block_reduce, used in turns, so that no reduction overwrites what the one before still reads.
__device__ void narrow_to_nucleus(Row& row, double goal, double (*partial)[kWarp]) {
  unsigned cut_bits = 0;  // weights in [0, 1] are in the order of their bits
  int turn = 0;
  for (int bit = 29; bit >= 0; --bit) {
    const float candidate = std::bit_cast<float>(cut_bits | (1u << bit));
    const double weight = sum_over(row, partial[turn ^= 1], [candidate](float w) {
      return w >= candidate ? static_cast<double>(w) : 0.0;
    });
    if (weight >= goal) cut_bits |= 1u << bit;
  }
  const float cut = std::bit_cast<float>(cut_bits);
  const double heavier =
      sum_over(row, partial[turn ^= 1], [cut](float w) { return w > cut ? static_cast<double>(w) : 0.0; });
  const double ties = sum_over(row, partial[turn ^= 1], [cut](float w) { return w == cut ? 1.0 : 0.0; });
  double kept = 1;
  for (double sum = heavier + static_cast<double>(cut); sum < goal && kept < ties; ++kept)
    sum += static_cast<double>(cut);
  const Row whole = row;
  row.cut = cut;
  row.last_tied = row.V;
  if (!(kept < ties)) return;
  double seen = 0;
  for (std::int64_t v = 0; v < row.V && seen < kept; ++v)
    if (whole.weight(v) == cut) row.last_tied = v, ++seen;
}

__global__ void __launch_bounds__(kEachThreads, kBlocks)
    sample_row(SamplingShape shape, const float* logits, const double* uniform, std::int32_t* token,
               float* log_probability, float* log_probability_at_1) {
  INFALIGN_SHARED(float, most_of, [kWarp]);
  INFALIGN_SHARED(std::int64_t, first_of, [kWarp]);
  INFALIGN_SHARED(double, at_1_of, [kWarp]);
  INFALIGN_SHARED(double, total_of, [kWarp]);
  INFALIGN_SHARED(double, narrowed_of, [kWarp]);
  INFALIGN_SHARED(double, nucleus_of, [2][kWarp]);
  INFALIGN_DYNAMIC_SHARED(double, chunk_sum);  // [chunks]
  const std::int64_t i = blockIdx.x, V = shape.vocabulary;
  const float* x = logits + i * V;

  float most = -INFINITY;
  for (std::int64_t v = threadIdx.x; v < V; v += blockDim.x) most = Maximum()(x[v], most);
  most = block_reduce(most, Maximum(), -INFINITY, most_of);
  const double inverse_temperature = 1 / static_cast<double>(shape.temperature);
  Row row{x, V, most, 1.0f, -1.0f, V};
  double total_at_1 = 0;
  if (shape.temperature != 1.0f) {
    total_at_1 = sum_over(row, at_1_of, [](float w) { return static_cast<double>(w); });
    row.inverse_temperature = static_cast<float>(inverse_temperature);
  }
  const double total = chunk_sums(row, chunk_sum, total_of);
  if (shape.temperature == 1.0f) total_at_1 = total;

  std::int64_t chosen = 0;
  if (shape
          .greedy) {  // the first of the largest; 0 where none equals the maximum, because the row is all NaN
    std::int64_t first = V;
    for (std::int64_t v = threadIdx.x; v < V && first == V; v += blockDim.x)
      if (x[v] == most) first = v;
    first = block_reduce(
        first, [](std::int64_t a, std::int64_t b) { return a < b ? a : b; }, V, first_of);
    chosen = first == V ? 0 : first;
  } else if (shape.top_p < 1) {
    if (isfinite(total)) {  // else the log-probability says that the row is not finite
      narrow_to_nucleus(row, static_cast<double>(shape.top_p) * total, nucleus_of);
      const double narrowed = chunk_sums(row, chunk_sum, narrowed_of);
      if (threadIdx.x == 0) chosen = invert(row, chunk_sum, uniform[i] * narrowed);
    }
  } else if (threadIdx.x == 0) {
    chosen = invert(row, chunk_sum, uniform[i] * total);
  }
  if (threadIdx.x != 0) return;
  token[i] = static_cast<std::int32_t>(chosen);
  const double below_most = static_cast<double>(x[chosen]) - static_cast<double>(most);
  log_probability[i] = static_cast<float>(below_most * inverse_temperature - log(total));
  log_probability_at_1[i] = static_cast<float>(below_most - log(total_at_1));
}

}  // namespace

void sample_tokens(const Stream& on, const SamplingShape& shape, float* logits, const double* uniform,
                   std::int32_t* token, float* log_probability, float* log_probability_at_1) {
  const auto shared = static_cast<std::size_t>(pieces(shape.vocabulary, kChunk)) * sizeof(double);
  launch(on, sample_row, as_grid(shape.rows), row_threads(shape.vocabulary), shared, shape, logits, uniform,
         token, log_probability, log_probability_at_1);
}

}  // namespace infalign::kernels::cuda
