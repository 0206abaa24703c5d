// Sampling on the CPU by inversion. One pass finds the largest logit, one sums exponentials block by block;
// then the block that the uniform number falls into is found, and only that block is exponentiated again to
// find the token.
#include "kernels/sampling/sampling.h"

#include <algorithm>
#include <cmath>
#include <vector>

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

/// Like `invert`, within the smallest set of likeliest tokens whose probability reaches top_p.
std::int32_t invert_nucleus(const Row& row, double total, double top_p, double uniform) {
  static thread_local std::vector<float> weight;
  static thread_local std::vector<std::int32_t> candidate;
  weight.resize(static_cast<std::size_t>(row.V));
  weights(row.V, row.logits, row.most, row.inverse_temperature, weight.data());
  const auto of = [&](std::int32_t v) { return weight[static_cast<std::size_t>(v)]; };
  // Tokens below this weight hold less than 1 - top_p together, so none is in the nucleus: no need to sort
  // them.
  const double negligible = (1 - top_p) * 0.999 * total / static_cast<double>(row.V);
  candidate.clear();
  for (std::int32_t v = 0; v < static_cast<std::int32_t>(row.V); ++v)
    if (of(v) > 0 && static_cast<double>(of(v)) >= negligible) candidate.push_back(v);
  if (candidate.empty()) return 0;  // the row is not finite; its log-probability says so
  std::stable_sort(candidate.begin(), candidate.end(),
                   [&](std::int32_t a, std::int32_t b) { return of(a) > of(b); });
  double nucleus = 0;
  auto end = candidate.begin();
  while (end != candidate.end() && nucleus < top_p * total) nucleus += static_cast<double>(of(*end++));
  double cumulative = 0;
  for (auto token = candidate.begin(); token != end; ++token) {
    cumulative += static_cast<double>(of(*token));
    if (cumulative > uniform * nucleus) return *token;
  }
  return *(end - 1);
}

}  // namespace

void sample_tokens(const Stream&, const SamplingShape& shape, float* logits, const double* uniform,
                   std::int32_t* token, float* log_probability, float* log_probability_at_1) {
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
        token[i] = static_cast<std::int32_t>(std::max(x, std::find(x, x + V, row.most)) - x) %
                   static_cast<std::int32_t>(V);
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
