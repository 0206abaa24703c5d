// The language-model head on the CPU. A chunk of rows is small enough that its logits are still in the
// second-level cache when they are exponentiated; the chunk's size is a constant, so it does not change any
// result.
#include "kernels/head/head.h"

#include <algorithm>
#include <cmath>

#include "kernels/exponential.h"
#include "kernels/matmul/matmul.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

/// Logits of a chunk: half a megabyte, in whole multiples of 32 rows.
constexpr std::int64_t kChunkFloats = 1 << 17;
constexpr std::int64_t kGrain = 8;  // rows of a chunk

std::int64_t chunk_rows(std::int64_t V) {
  return std::clamp<std::int64_t>(kChunkFloats / V / 32 * 32, 32, 512);
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

INFALIGN_VECTORISE
void log_probabilities(std::int64_t n, std::int64_t V, const float* logits, const std::int32_t* target,
                       float inverse_temperature, float* log_probability, float* log_sum_exp) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float* row = logits + i * V;
    const float most = maximum(V, row);
    const double log_sum = std::log(sum_of_exponentials(V, row, most, inverse_temperature));
    const double tau = inverse_temperature;
    log_probability[i] = static_cast<float>((static_cast<double>(row[target[i]]) - most) * tau - log_sum);
    log_sum_exp[i] = static_cast<float>(most * tau + log_sum);
  }
}

/// logits [n, V] become their own gradient: (onehot(target) - softmax) * d_log_probability *
/// inverse_temperature.
INFALIGN_VECTORISE
void logits_to_gradient(std::int64_t n, std::int64_t V, float* logits, const std::int32_t* target,
                        float inverse_temperature, const float* log_sum_exp, const float* d_log_probability) {
  for (std::int64_t i = 0; i < n; ++i) {
    float* row = logits + i * V;
    const float base = log_sum_exp[i];
    const float d = d_log_probability[i] * inverse_temperature;
#pragma omp simd
    for (std::int64_t v = 0; v < V; ++v) row[v] = -d * exponential(row[v] * inverse_temperature - base);
    row[target[i]] += d;
  }
}

}  // namespace

std::int64_t head_scratch(std::int64_t n, std::int64_t V) { return std::min(n, chunk_rows(V)) * V; }

void head_forward(const Stream& on, std::int64_t n, std::int64_t C, std::int64_t V, const float* hidden,
                  const float* weight, const std::int32_t* target, float inverse_temperature,
                  float* log_probability, float* log_sum_exp) {
  const std::int64_t chunk = chunk_rows(V);
  float* logits = logits_scratch(n, V);  // [chunk, V]
  for (std::int64_t first = 0; first < n; first += chunk) {
    const std::int64_t rows = std::min(chunk, n - first);
    matmul(on, Transpose::kNo, Transpose::kYes, rows, V, C, hidden + first * C, C, weight, C, 0, logits, V);
    parallel_for(rows, kGrain, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t row = first + begin;
      log_probabilities(end - begin, V, logits + begin * V, target + row, inverse_temperature,
                        log_probability + row, log_sum_exp + row);
    });
  }
}

void head_backward(const Stream& on, std::int64_t n, std::int64_t C, std::int64_t V, const float* hidden,
                   const float* weight, const std::int32_t* target, float inverse_temperature,
                   const float* log_sum_exp, const float* d_log_probability, float* d_hidden,
                   float* d_weight) {
  const std::int64_t chunk = chunk_rows(V);
  float* logits = logits_scratch(n, V);  // [chunk, V]
  for (std::int64_t first = 0; first < n; first += chunk) {
    const std::int64_t rows = std::min(chunk, n - first);
    const float* chunk_hidden = hidden + first * C;
    matmul(on, Transpose::kNo, Transpose::kYes, rows, V, C, chunk_hidden, C, weight, C, 0, logits, V);
    parallel_for(rows, kGrain, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t row = first + begin;
      logits_to_gradient(end - begin, V, logits + begin * V, target + row, inverse_temperature,
                         log_sum_exp + row, d_log_probability + row);
    });
    matmul(on, Transpose::kNo, Transpose::kNo, rows, C, V, logits, V, weight, C, 0, d_hidden + first * C, C);
    matmul(on, Transpose::kYes, Transpose::kNo, V, C, rows, logits, V, chunk_hidden, C, 1, d_weight, C);
  }
}

}  // namespace infalign::kernels
