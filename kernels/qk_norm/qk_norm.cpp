// The heads' norms on the CPU, row by row; heads are short, so a row's stay in the first-level cache.
#include "kernels/qk_norm/qk_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/operations.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

/// Rows whose gradients of the weights are summed together. Fixed, so that the order of the sum is too.
constexpr std::int64_t kRowBlock = 64;

INFALIGN_VECTORISE
void forward_rows(const AttentionShape& shape, std::int64_t T, float epsilon, const float* in,
                  const float* q_weight, const float* k_weight, float* out, float* inverse_rms) {
  const std::int64_t D = shape.head_dim, normed = shape.heads + shape.kv_heads;
  for (std::int64_t t = 0; t < T; ++t) {
    const float* row = in + t * shape.row();
    float* result = out + t * shape.row();
    for (std::int64_t head = 0; head < normed; ++head) {
      const float* x = row + head * D;
      const float* weight = head < shape.heads ? q_weight : k_weight;
      float* y = result + head * D;
      float squares = 0;
#pragma omp simd reduction(+ : squares)
      for (std::int64_t d = 0; d < D; ++d) squares += x[d] * x[d];
      const float inverse = 1.0f / std::sqrt(squares / static_cast<float>(D) + epsilon);
      inverse_rms[t * normed + head] = inverse;
#pragma omp simd
      for (std::int64_t d = 0; d < D; ++d) y[d] = x[d] * inverse * weight[d];
    }
    std::copy(row + normed * D, row + shape.row(), result + normed * D);
  }
}

/// d_weights [2, head_dim], of q and of k, are overwritten with the sums over these rows.
INFALIGN_VECTORISE
void backward_rows(const AttentionShape& shape, std::int64_t T, const float* in, const float* q_weight,
                   const float* k_weight, const float* inverse_rms, float* d_qkv, float* d_weights) {
  const std::int64_t D = shape.head_dim, normed = shape.heads + shape.kv_heads;
  std::fill_n(d_weights, 2 * D, 0.0f);
  for (std::int64_t t = 0; t < T; ++t)
    for (std::int64_t head = 0; head < normed; ++head) {
      const float* x = in + t * shape.row() + head * D;
      const float* weight = head < shape.heads ? q_weight : k_weight;
      float* d_weight = head < shape.heads ? d_weights : d_weights + D;
      float* d = d_qkv + t * shape.row() + head * D;
      const float inverse = inverse_rms[t * normed + head];
      float along = 0;  // the part of the gradient that points along x changes nothing
#pragma omp simd reduction(+ : along)
      for (std::int64_t i = 0; i < D; ++i) {
        const float d_x = d[i] * x[i];
        along += d_x * weight[i];
        d_weight[i] += d_x * inverse;
      }
      const float shrink = along * inverse * inverse / static_cast<float>(D);
#pragma omp simd
      for (std::int64_t i = 0; i < D; ++i) d[i] = (d[i] * weight[i] - x[i] * shrink) * inverse;
    }
}

}  // namespace

void qk_norm_forward(const Stream& on, const AttentionShape& shape, std::int64_t T, float epsilon,
                     ConstValues in, const float* q_weight, const float* k_weight, Values out,
                     float* inverse_rms) {
  if (on.device() == Device::kCuda)
    return on_cuda().qk_norm_forward(on, shape, T, epsilon, in, q_weight, k_weight, out, inverse_rms);
  parallel_for(T, kRowBlock, [&](std::int64_t begin, std::int64_t end) {
    forward_rows(shape, end - begin, epsilon, in.floats() + begin * shape.row(), q_weight, k_weight,
                 out.floats() + begin * shape.row(), inverse_rms + begin * (shape.heads + shape.kv_heads));
  });
}

void qk_norm_backward(const Stream& on, const AttentionShape& shape, std::int64_t T, ConstValues in,
                      const float* q_weight, const float* k_weight, const float* inverse_rms, Values d_qkv,
                      float* d_q_weight, float* d_k_weight) {
  if (on.device() == Device::kCuda)
    return on_cuda().qk_norm_backward(on, shape, T, in, q_weight, k_weight, inverse_rms, d_qkv, d_q_weight,
                                      d_k_weight);
  const std::int64_t D = shape.head_dim, blocks = (T + kRowBlock - 1) / kRowBlock;
  static thread_local Buffer<float> scratch;
  scratch.reserve(static_cast<std::size_t>(2 * blocks * D));
  float* partial = scratch.data();  // [blocks, 2, head_dim]
  parallel_for(blocks, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      const std::int64_t begin = block * kRowBlock, end = std::min(T, begin + kRowBlock);
      backward_rows(shape, end - begin, in.floats() + begin * shape.row(), q_weight, k_weight,
                    inverse_rms + begin * (shape.heads + shape.kv_heads),
                    d_qkv.floats() + begin * shape.row(), partial + 2 * block * D);
    }
  });
  if (d_q_weight == nullptr) return;
  for (std::int64_t block = 0; block < blocks; ++block)
    for (std::int64_t d = 0; d < D; ++d) {
      d_q_weight[d] += partial[2 * block * D + d];
      d_k_weight[d] += partial[(2 * block + 1) * D + d];
    }
}

}  // namespace infalign::kernels
