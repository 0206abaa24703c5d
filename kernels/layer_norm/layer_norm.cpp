// LayerNorm on the CPU: a row is read once from memory and stays in the first-level cache for its other
// passes. The backward pass sums the mean again rather than keep it.
#include "kernels/layer_norm/layer_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/operations.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

/// Rows whose gradients of weight and bias are summed together. Fixed, so that the order of the sum is too.
constexpr std::int64_t kRowBlock = 64;

[[gnu::always_inline]] static inline float mean_of(std::int64_t C, const float* x) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t c = 0; c < C; ++c) sum += x[c];
  return sum / static_cast<float>(C);
}

INFALIGN_VECTORISE
void forward_rows(std::int64_t T, std::int64_t C, float epsilon, float* residual, const float* branch,
                  const float* weight, const float* bias, float* out, float* inverse_deviation) {
  for (std::int64_t t = 0; t < T; ++t) {
    float* x = residual + t * C;
    float* y = out + t * C;
    if (branch != nullptr) {
      const float* add = branch + t * C;
#pragma omp simd
      for (std::int64_t c = 0; c < C; ++c) x[c] += add[c];
    }
    const float mean = mean_of(C, x);
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (std::int64_t c = 0; c < C; ++c) squares += (x[c] - mean) * (x[c] - mean);
    const float inverse = 1.0f / std::sqrt(squares / static_cast<float>(C) + epsilon);
    inverse_deviation[t] = inverse;
#pragma omp simd
    for (std::int64_t c = 0; c < C; ++c) y[c] = (x[c] - mean) * inverse * weight[c] + bias[c];
  }
}

/// d_weight and d_bias [C] are overwritten with the sums over these rows.
INFALIGN_VECTORISE
void backward_rows(std::int64_t T, std::int64_t C, const float* d_out, const float* residual,
                   const float* weight, const float* inverse_deviation, float* d_residual, float* d_weight,
                   float* d_bias) {
#pragma omp simd
  for (std::int64_t c = 0; c < C; ++c) d_weight[c] = d_bias[c] = 0;
  for (std::int64_t t = 0; t < T; ++t) {
    const float* x = residual + t * C;
    const float* dy = d_out + t * C;
    float* dx = d_residual + t * C;
    const float inverse = inverse_deviation[t], mean = mean_of(C, x);
    float level = 0, along = 0;  // what shifts a row or stretches it changes nothing
#pragma omp simd reduction(+ : level, along)
    for (std::int64_t c = 0; c < C; ++c) {
      const float normal = (x[c] - mean) * inverse;
      level += dy[c] * weight[c];
      along += dy[c] * weight[c] * normal;
      d_weight[c] += dy[c] * normal;
      d_bias[c] += dy[c];
    }
    level /= static_cast<float>(C);
    along /= static_cast<float>(C);
#pragma omp simd
    for (std::int64_t c = 0; c < C; ++c)
      dx[c] += (dy[c] * weight[c] - level - (x[c] - mean) * inverse * along) * inverse;
  }
}

}  // namespace

void add_layer_norm_forward(const Stream& on, std::int64_t T, std::int64_t C, float epsilon, float* residual,
                            const float* branch, const float* weight, const float* bias, Values out,
                            float* inverse_deviation) {
  if (on.device() == Device::kCuda)
    return on_cuda().add_layer_norm_forward(on, T, C, epsilon, residual, branch, weight, bias, out,
                                            inverse_deviation);
  parallel_for(T, kRowBlock, [&](std::int64_t begin, std::int64_t end) {
    forward_rows(end - begin, C, epsilon, residual + begin * C,
                 branch == nullptr ? nullptr : branch + begin * C, weight, bias, out.floats() + begin * C,
                 inverse_deviation + begin);
  });
}

void layer_norm_backward(const Stream& on, std::int64_t T, std::int64_t C, ConstValues d_out,
                         const float* residual, const float* weight, const float* inverse_deviation,
                         float* d_residual, float* d_weight, float* d_bias) {
  if (on.device() == Device::kCuda)
    return on_cuda().layer_norm_backward(on, T, C, d_out, residual, weight, inverse_deviation, d_residual,
                                         d_weight, d_bias);
  const std::int64_t blocks = (T + kRowBlock - 1) / kRowBlock;
  static thread_local Buffer<float> scratch;
  scratch.reserve(static_cast<std::size_t>(2 * blocks * C));
  float* partial = scratch.data();  // [blocks, 2, C]
  parallel_for(blocks, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      const std::int64_t begin = block * kRowBlock, end = std::min(T, begin + kRowBlock);
      float* sums = partial + 2 * block * C;
      backward_rows(end - begin, C, d_out.floats() + begin * C, residual + begin * C, weight,
                    inverse_deviation + begin, d_residual + begin * C, sums, sums + C);
    }
  });
  if (d_weight == nullptr) return;
  for (std::int64_t block = 0; block < blocks; ++block)
    for (std::int64_t c = 0; c < C; ++c) {
      d_weight[c] += partial[2 * block * C + c];
      d_bias[c] += partial[(2 * block + 1) * C + c];
    }
}

}  // namespace infalign::kernels
