// The head's rows on the CPU, in float32 within blocks of a row and float64 across them.
#include "kernels/head/rows.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/operations.h"
#include "kernels/exponential.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

constexpr std::int64_t kGrain = 8;  // rows

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

/// The same, and logits become their gradient, as the contract says.
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

}  // namespace

void log_probability_rows(const Stream& on, std::int64_t n, std::int64_t V, const float* logits,
                          const std::int32_t* target, float inverse_temperature, float* log_probability) {
  if (on.device() == Device::kCuda)
    return on_cuda().log_probability_rows(on, n, V, logits, target, inverse_temperature, log_probability);
  parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    log_probabilities(end - begin, V, logits + begin * V, target + begin, inverse_temperature,
                      log_probability + begin);
  });
}

void log_probability_rows_backward(const Stream& on, std::int64_t n, std::int64_t V, float softcap,
                                   float* logits, const std::int32_t* target, float inverse_temperature,
                                   const float* d_log_probability, float* log_probability) {
  if (on.device() == Device::kCuda)
    return on_cuda().log_probability_rows_backward(on, n, V, softcap, logits, target, inverse_temperature,
                                                   d_log_probability, log_probability);
  parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    float* own = logits + begin * V;
    if (softcap > 0)
      gradient_of_capped_logits(end - begin, V, softcap, own, target + begin, inverse_temperature,
                                d_log_probability + begin, log_probability + begin);
    else
      gradient_of_logits(end - begin, V, own, target + begin, inverse_temperature, d_log_probability + begin,
                         log_probability + begin);
  });
}

}  // namespace infalign::kernels
