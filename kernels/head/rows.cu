// The head's rows on a GPU, a block a row. Bound: memory. A chunk of 128 rows of V = 128256 (66 MB, of which
// an H100's second-level cache keeps a part) at 3.0 TB/s: 0.04 ms forward (8 bytes a logit), 0.09 ms with the
// gradient (16).
#include "kernels/head/rows.h"

#include "kernels/cuda/each.h"
#include "kernels/cuda/reduce.h"
#include "kernels/exponential.h"

namespace infalign::kernels::cuda {
namespace {

constexpr unsigned kRowThreads = 512;

struct Rows {
  std::int64_t V;
  const std::int32_t* target;
  float inverse_temperature;
  float* log_probability;
};

/// log sum_v exp(inverse_temperature x[v]), for all threads; the row's log-probability is written. What is
/// read here by any thread is read before any thread returns.
__device__ double log_probability_of(const Rows& rows, const float* x, float* most_of, double* sum_of) {
  float most = -INFINITY;
  for (std::int64_t v = threadIdx.x; v < rows.V; v += blockDim.x) most = Maximum()(x[v], most);
  const float logit = x[rows.target[blockIdx.x]];
  most = block_reduce(most, Maximum(), -INFINITY, most_of);
  float sum = 0;
  for (std::int64_t v = threadIdx.x; v < rows.V; v += blockDim.x)
    sum += exponential((x[v] - most) * rows.inverse_temperature);
  const double log_sum = log(block_reduce(static_cast<double>(sum), Sum(), 0.0, sum_of));
  const double tau = rows.inverse_temperature;
  if (threadIdx.x == 0)
    rows.log_probability[blockIdx.x] =
        static_cast<float>((static_cast<double>(logit) - static_cast<double>(most)) * tau - log_sum);
  return static_cast<double>(most) * tau + log_sum;
}

__global__ void __launch_bounds__(kRowThreads) log_probability_row(Rows rows, const float* logits) {
  INFALIGN_SHARED(float, most_of, [kWarp]);
  INFALIGN_SHARED(double, sum_of, [kWarp]);
  log_probability_of(rows, logits + std::int64_t{blockIdx.x} * rows.V, most_of, sum_of);
}

__global__ void __launch_bounds__(kRowThreads)
    log_probability_row_backward(Rows rows, float softcap, float* logits, const float* d_log_probability) {
  INFALIGN_SHARED(float, most_of, [kWarp]);
  INFALIGN_SHARED(double, sum_of, [kWarp]);
  float* x = logits + std::int64_t{blockIdx.x} * rows.V;
  const float base = static_cast<float>(log_probability_of(rows, x, most_of, sum_of));
  const float d = d_log_probability[blockIdx.x] * rows.inverse_temperature;
  const std::int64_t target = rows.target[blockIdx.x];
  for (std::int64_t v = threadIdx.x; v < rows.V; v += blockDim.x) {
    const float logit = x[v];
    float gradient = -d * exponential(logit * rows.inverse_temperature - base);
    if (v == target) gradient += d;
    if (softcap > 0) {
      const float tangent = logit / softcap;
      gradient *= 1.0f - tangent * tangent;
    }
    x[v] = gradient;
  }
}

}  // namespace

void log_probability_rows(const Stream& on, std::int64_t n, std::int64_t V, const float* logits,
                          const std::int32_t* target, float inverse_temperature, float* log_probability) {
  launch(on, log_probability_row, as_grid(n), row_threads(V, kRowThreads), 0,
         Rows{V, target, inverse_temperature, log_probability}, logits);
}

void log_probability_rows_backward(const Stream& on, std::int64_t n, std::int64_t V, float softcap,
                                   float* logits, const std::int32_t* target, float inverse_temperature,
                                   const float* d_log_probability, float* log_probability) {
  launch(on, log_probability_row_backward, as_grid(n), row_threads(V, kRowThreads), 0,
         Rows{V, target, inverse_temperature, log_probability}, softcap, logits, d_log_probability);
}

}  // namespace infalign::kernels::cuda
