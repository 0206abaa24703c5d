// The language-model head on the CPU. A chunk of rows is small enough that its logits are still in the
// second-level cache when they are exponentiated; the chunk's size is a constant, so it does not change any
// result.
#include "kernels/head/head.h"

#include <algorithm>
#include <cmath>

#include "kernels/exponential.h"
#include "kernels/parallel.h"
#include "kernels/softcap/softcap.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

/// Logits of a chunk: half a megabyte, but of rows enough that their gradient is worth the passes over the
/// weights.
constexpr std::int64_t kChunkFloats = 1 << 17;
constexpr std::int64_t kFewestRows = 128, kMostRows = 512;
constexpr std::int64_t kGrain = 8;  // rows of a chunk

std::int64_t chunk_rows(std::int64_t V) {
  return std::clamp(kChunkFloats / V / 32 * 32, kFewestRows, kMostRows);
}

float* logits_scratch(std::int64_t n, std::int64_t V) {
  static thread_local Buffer<float> scratch;
  scratch.reserve(static_cast<std::size_t>(head_scratch(n, V)));
  return scratch.data();
}

/// The largest entry; NaN is passed over here and shows in the sum of exponentials instead.
[[gnu::always_inline]] static inline float maximum(std::int64_t V, const float* x) {
  float most = x[0];
#pragma omp simd reduction(max : most)
  for (std::int64_t v = 0; v < V; ++v) most = x[v] > most ? x[v] : most;
  return most;
}

/// sum_v exp((x[v] - most) * inverse_temperature): float32 within blocks, float64 across them.
[[gnu::always_inline]] static inline double sum_of_exponentials(std::int64_t V, const float* x, float most,
                                                                float inverse_temperature) {
  constexpr std::int64_t kBlock = 512;
  double total = 0;
  for (std::int64_t begin = 0; begin < V; begin += kBlock) {
    const std::int64_t end = std::min(V, begin + kBlock);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t v = begin; v < end; ++v) sum += exponential((x[v] - most) * inverse_temperature);
    total += static_cast<double>(sum);
  }
  return total;
}

/// The log-probability of its target, and the log-sum-exp of the scaled logits.
struct RowResult {
  float log_probability, log_sum_exp;
};

[[gnu::always_inline]] static inline RowResult log_probability_of(std::int64_t V, const float* row,
                                                                  std::int32_t target,
                                                                  float inverse_temperature) {
  const float most = maximum(V, row);
  const double log_sum = std::log(sum_of_exponentials(V, row, most, inverse_temperature));
  const double tau = inverse_temperature;
  return {static_cast<float>((static_cast<double>(row[target]) - most) * tau - log_sum),
          static_cast<float>(most * tau + log_sum)};
}

INFALIGN_VECTORISE
void log_probabilities(std::int64_t n, std::int64_t V, const float* logits, const std::int32_t* target,
                       float inverse_temperature, float* log_probability) {
  for (std::int64_t i = 0; i < n; ++i)
    log_probability[i] =
        log_probability_of(V, logits + i * V, target[i], inverse_temperature).log_probability;
}

/// The same, and logits [n, V] become their own gradient: (onehot(target) - softmax) * d_log_probability *
/// inverse_temperature. Of logits that were capped it goes on to the logits before that.
template <bool kCapped>
[[gnu::always_inline]] static inline void log_probabilities_and_gradient(
    std::int64_t n, std::int64_t V, float softcap, float* logits, const std::int32_t* target,
    float inverse_temperature, const float* d_log_probability, float* log_probability) {
  for (std::int64_t i = 0; i < n; ++i) {
    float* row = logits + i * V;
    const RowResult result = log_probability_of(V, row, target[i], inverse_temperature);
    log_probability[i] = result.log_probability;
    const float base = result.log_sum_exp;
    const float d = d_log_probability[i] * inverse_temperature;
    const auto through_cap = [softcap](float logit) __attribute__((always_inline)) {
      const float tangent = logit / softcap;
      return 1.0f - tangent * tangent;
    };
    const float d_target = kCapped ? d * through_cap(row[target[i]]) : d;
#pragma omp simd
    for (std::int64_t v = 0; v < V; ++v) {
      const float gradient = -d * exponential(row[v] * inverse_temperature - base);
      row[v] = kCapped ? gradient * through_cap(row[v]) : gradient;
    }
    row[target[i]] += d_target;
  }
}

INFALIGN_VECTORISE
void gradient_of_logits(std::int64_t n, std::int64_t V, float* logits, const std::int32_t* target,
                        float inverse_temperature, const float* d_log_probability, float* log_probability) {
  log_probabilities_and_gradient<false>(n, V, 0, logits, target, inverse_temperature, d_log_probability,
                                        log_probability);
}

INFALIGN_VECTORISE
void gradient_of_capped_logits(std::int64_t n, std::int64_t V, float softcap, float* logits,
                               const std::int32_t* target, float inverse_temperature,
                               const float* d_log_probability, float* log_probability) {
  log_probabilities_and_gradient<true>(n, V, softcap, logits, target, inverse_temperature, d_log_probability,
                                       log_probability);
}

/// Makes the logits [rows, V] of a chunk of hidden states at a time and calls visit(first row, rows, logits),
/// which may overwrite them.
template <class Visit>
void for_each_chunk(const Stream& on, std::int64_t n, std::int64_t C, std::int64_t V, const float* hidden,
                    const Linear& weight, float softcap, Visit&& visit) {
  const std::int64_t chunk = chunk_rows(V);
  float* logits = logits_scratch(n, V);  // [chunk, V]
  for (std::int64_t first = 0; first < n; first += chunk) {
    const std::int64_t rows = std::min(chunk, n - first);
    weight.forward(on, rows, hidden + first * C, logits);
    if (softcap > 0) softcap_forward(on, rows * V, softcap, logits);
    visit(first, rows, logits);
  }
}

}  // namespace

std::int64_t head_scratch(std::int64_t n, std::int64_t V) { return std::min(n, chunk_rows(V)) * V; }

void head_forward(const Stream& on, std::int64_t n, std::int64_t C, std::int64_t V, const float* hidden,
                  const Linear& weight, const std::int32_t* target, float inverse_temperature,
                  float* log_probability, float softcap) {
  for_each_chunk(on, n, C, V, hidden, weight, softcap,
                 [&](std::int64_t first, std::int64_t rows, const float* logits) {
                   parallel_for(rows, kGrain, [&](std::int64_t begin, std::int64_t end) {
                     log_probabilities(end - begin, V, logits + begin * V, target + first + begin,
                                       inverse_temperature, log_probability + first + begin);
                   });
                 });
}

void head_forward_backward(const Stream& on, std::int64_t n, std::int64_t C, std::int64_t V,
                           const float* hidden, const Linear& weight, const std::int32_t* target,
                           float inverse_temperature, const float* d_log_probability, float* log_probability,
                           float* d_hidden, float* d_weight, float softcap) {
  for_each_chunk(on, n, C, V, hidden, weight, softcap,
                 [&](std::int64_t first, std::int64_t rows, float* logits) {
                   parallel_for(rows, kGrain, [&](std::int64_t begin, std::int64_t end) {
                     const std::int64_t row = first + begin, count = end - begin;
                     float* own = logits + begin * V;
                     if (softcap > 0)
                       gradient_of_capped_logits(count, V, softcap, own, target + row, inverse_temperature,
                                                 d_log_probability + row, log_probability + row);
                     else
                       gradient_of_logits(count, V, own, target + row, inverse_temperature,
                                          d_log_probability + row, log_probability + row);
                   });
                   weight.backward_input(on, rows, logits, d_hidden + first * C);
                   if (d_weight != nullptr)
                     weight.backward_weight(on, rows, logits, hidden + first * C, d_weight);
                 });
}

}  // namespace infalign::kernels
