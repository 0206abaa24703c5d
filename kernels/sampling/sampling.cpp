// Sampling on the CPU by inversion. One pass finds the largest logit, one sums exponentials block by block;
// then the block that the uniform number falls into is found, and only that block is exponentiated again to
// find the token.
#include "kernels/sampling/sampling.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <span>
#include <vector>

#include "kernels/cuda/operations.h"
#include "kernels/exponential.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

constexpr std::int64_t kGrain = 4;    // rows
constexpr std::int64_t kBlock = 128;  // entries summed in float32; blocks are summed in float64

/// One row and its temperature, to speak of its weights exp((logit - most) * inverse_temperature).
struct Row {
  const float* logits;
  std::int64_t V;
  float most;
  float inverse_temperature;

  std::int64_t blocks() const { return (V + kBlock - 1) / kBlock; }
};

INFALIGN_VECTORISE
float maximum(std::int64_t V, const float* x) {
  float most = x[0];
#pragma omp simd reduction(max : most)
  for (std::int64_t v = 0; v < V; ++v) most = x[v] > most ? x[v] : most;
  return most;
}

INFALIGN_VECTORISE
void weights(std::int64_t n, const float* x, float most, float inverse_temperature, float* weight) {
#pragma omp simd
  for (std::int64_t v = 0; v < n; ++v) weight[v] = exponential((x[v] - most) * inverse_temperature);
}

/// The sum of all weights; the sums of blocks into block_sum [blocks].
INFALIGN_VECTORISE
double block_sums(const Row& row, double* block_sum) {
  const float* x = row.logits;
  const float most = row.most, inverse_temperature = row.inverse_temperature;
  double total = 0;
  for (std::int64_t begin = 0; begin < row.V; begin += kBlock) {
    const std::int64_t end = std::min(row.V, begin + kBlock);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t v = begin; v < end; ++v) sum += exponential((x[v] - most) * inverse_temperature);
    *block_sum++ = static_cast<double>(sum);
    total += static_cast<double>(sum);
  }
  return total;
}

/// The first token at which the cumulative weight exceeds `goal`, else (goal lost to rounding) the last of
/// any weight.
std::int32_t invert(const Row& row, const double* block_sum, double goal) {
  std::int64_t chosen = 0;
  double before = 0;  // cumulative weight of the blocks before the chosen one
  double cumulative = 0;
  for (std::int64_t block = 0; block < row.blocks(); ++block) {
    if (!(block_sum[block] > 0)) continue;
    chosen = block;
    before = cumulative;
    cumulative += block_sum[block];
    if (cumulative > goal) break;
  }
  const std::int64_t begin = chosen * kBlock, count = std::min(kBlock, row.V - begin);
  float weight[kBlock];
  weights(count, row.logits + begin, row.most, row.inverse_temperature, weight);
  std::int64_t token = 0;
  for (std::int64_t v = 0; v < count; ++v) {
    if (!(weight[v] > 0)) continue;
    token = v;
    before += static_cast<double>(weight[v]);
    if (before > goal) break;
  }
  return static_cast<std::int32_t>(begin + token);
}

/// The nucleus as a cut: tokens heavier than `weight`, and of those exactly as heavy the ones up to
/// `last_tied`.
struct Nucleus {
  float weight;
  std::int32_t last_tied;
  double sum;
};

/// The smallest set of likeliest tokens that weighs `goal` or more. Weights are counted by the leading bits
/// of their floats, which are in the same order; so only the tokens of the one bucket that the cut falls into
/// are sorted.
Nucleus find_nucleus(std::span<const float> weight, double goal) {
  constexpr int kShift = 21;  // four buckets to an octave
  constexpr std::size_t kBuckets = (std::bit_cast<std::uint32_t>(1.0f) >> kShift) + 1;
  const auto bucket_of = [](float w) { return std::size_t{std::bit_cast<std::uint32_t>(w) >> kShift}; };
  std::array<double, kBuckets> bucket_sum{};
  for (const float w : weight) bucket_sum[bucket_of(w)] += static_cast<double>(w);

  std::size_t cut = kBuckets - 1;
  double heavier = 0;
  while (cut > 0 && heavier + bucket_sum[cut] < goal) heavier += bucket_sum[cut--];

  static thread_local std::vector<std::int32_t> candidates;
  candidates.clear();
  for (std::size_t v = 0; v < weight.size(); ++v)
    if (bucket_of(weight[v]) == cut && weight[v] > 0) candidates.push_back(static_cast<std::int32_t>(v));
  const auto of = [&](std::int32_t v) { return weight[static_cast<std::size_t>(v)]; };
  std::sort(candidates.begin(), candidates.end(),
            [&](std::int32_t a, std::int32_t b) { return of(a) > of(b) || (of(a) == of(b) && a < b); });
  Nucleus nucleus{.weight = 0, .last_tied = static_cast<std::int32_t>(weight.size()), .sum = heavier};
  for (const std::int32_t v : candidates) {
    nucleus = {.weight = of(v), .last_tied = v, .sum = nucleus.sum + static_cast<double>(of(v))};
    if (nucleus.sum >= goal) break;
  }
  return nucleus;
}

/// Like `invert`, within the smallest set of likeliest tokens whose probability reaches top_p.
std::int32_t invert_nucleus(const Row& row, double total, double top_p, double uniform) {
  if (!std::isfinite(total)) return 0;  // the log-probability says that the row is not finite
  static thread_local std::vector<float> weight;
  weight.resize(static_cast<std::size_t>(row.V));
  weights(row.V, row.logits, row.most, row.inverse_temperature, weight.data());
  const Nucleus nucleus = find_nucleus(weight, top_p * total);
  const double goal = uniform * nucleus.sum;
  double cumulative = 0;
  std::int32_t token = 0;
  for (std::int32_t v = 0; v < static_cast<std::int32_t>(row.V); ++v) {
    const float w = weight[static_cast<std::size_t>(v)];
    const bool inside = w > nucleus.weight || (w == nucleus.weight && v <= nucleus.last_tied);
    if (!inside || !(w > 0)) continue;
    token = v;
    cumulative += static_cast<double>(w);
    if (cumulative > goal) break;
  }
  return token;
}

/// The first of the largest logits; token 0 where none equals the maximum, because the row is all NaN.
std::int32_t first_largest(const Row& row) {
  const float* end = row.logits + row.V;
  const float* found = std::find(row.logits, end, row.most);
  return found == end ? 0 : static_cast<std::int32_t>(found - row.logits);
}

}  // namespace

void sample_tokens(const Stream& on, const SamplingShape& shape, float* logits, const double* uniform,
                   std::int32_t* token, float* log_probability, float* log_probability_at_1) {
  if (on.device() == Device::kCuda)
    return on_cuda().sample_tokens(on, shape, logits, uniform, token, log_probability, log_probability_at_1);
  const std::int64_t V = shape.vocabulary;
  const double inverse_temperature = 1 / static_cast<double>(shape.temperature);
  parallel_for(shape.rows, kGrain, [&](std::int64_t begin, std::int64_t end) {
    static thread_local std::vector<double> block_sum;
    block_sum.resize(static_cast<std::size_t>((V + kBlock - 1) / kBlock));
    for (std::int64_t i = begin; i < end; ++i) {
      const float* x = logits + i * V;
      Row row{x, V, maximum(V, x), 1.0f};
      double total_at_1 = 0;
      if (shape.temperature != 1.0f) {
        total_at_1 = block_sums(row, block_sum.data());
        row.inverse_temperature = static_cast<float>(inverse_temperature);
      }
      const double total = block_sums(row, block_sum.data());
      if (shape.temperature == 1.0f) total_at_1 = total;

      if (shape.greedy)
        token[i] = first_largest(row);
      else if (shape.top_p < 1)
        token[i] = invert_nucleus(row, total, static_cast<double>(shape.top_p), uniform[i]);
      else
        token[i] = invert(row, block_sum.data(), uniform[i] * total);

      const double below_most = static_cast<double>(x[token[i]]) - static_cast<double>(row.most);
      log_probability[i] = static_cast<float>(below_most * inverse_temperature - std::log(total));
      log_probability_at_1[i] = static_cast<float>(below_most - std::log(total_at_1));
    }
  });
}

}  // namespace infalign::kernels
