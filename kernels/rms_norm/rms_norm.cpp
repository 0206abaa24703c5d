// RMSNorm on the CPU: a row is read once from memory and stays in the first-level cache for its second pass.
#include "kernels/rms_norm/rms_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/operations.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

/// Rows whose gradient of the weight is summed together. Fixed, so that the order of the sum is too.
constexpr std::int64_t kRowBlock = 64;

INFALIGN_VECTORISE
void forward_rows(std::int64_t T, std::int64_t C, float epsilon, float* residual, const float* branch,
                  const float* weight, float* out, float* inverse_rms) {
  for (std::int64_t t = 0; t < T; ++t) {
    float* x = residual + t * C;
    float* y = out + t * C;
    float squares = 0;
    if (branch != nullptr) {
      const float* add = branch + t * C;
#pragma omp simd reduction(+ : squares)
      for (std::int64_t c = 0; c < C; ++c) {
        const float sum = x[c] + add[c];
        x[c] = sum;
        squares += sum * sum;
      }
    } else {
#pragma omp simd reduction(+ : squares)
      for (std::int64_t c = 0; c < C; ++c) squares += x[c] * x[c];
    }
    const float inverse = 1.0f / std::sqrt(squares / static_cast<float>(C) + epsilon);
    inverse_rms[t] = inverse;
#pragma omp simd
    for (std::int64_t c = 0; c < C; ++c) y[c] = x[c] * inverse * weight[c];
  }
}

/// d_weight [C] is overwritten with the sum over these rows.
INFALIGN_VECTORISE
void backward_rows(std::int64_t T, std::int64_t C, const float* d_out, const float* residual,
                   const float* weight, const float* inverse_rms, float* d_residual, float* d_weight) {
#pragma omp simd
  for (std::int64_t c = 0; c < C; ++c) d_weight[c] = 0;
  for (std::int64_t t = 0; t < T; ++t) {
    const float* x = residual + t * C;
    const float* dy = d_out + t * C;
    float* dx = d_residual + t * C;
    const float inverse = inverse_rms[t];
    float along = 0;  // sum_c dy w x: the part of the gradient that points along x changes nothing
#pragma omp simd reduction(+ : along)
    for (std::int64_t c = 0; c < C; ++c) {
      const float dy_x = dy[c] * x[c];
      along += dy_x * weight[c];
      d_weight[c] += dy_x * inverse;
    }
    const float shrink = along * inverse * inverse / static_cast<float>(C);
#pragma omp simd
    for (std::int64_t c = 0; c < C; ++c) dx[c] += (dy[c] * weight[c] - x[c] * shrink) * inverse;
  }
}

}  // namespace

void add_rms_norm_forward(const Stream& on, std::int64_t T, std::int64_t C, float epsilon, float* residual,
                          const float* branch, const float* weight, Values out, float* inverse_rms) {
  if (on.device() == Device::kCuda)
    return on_cuda().add_rms_norm_forward(on, T, C, epsilon, residual, branch, weight, out, inverse_rms);
  parallel_for(T, kRowBlock, [&](std::int64_t begin, std::int64_t end) {
    forward_rows(end - begin, C, epsilon, residual + begin * C,
                 branch == nullptr ? nullptr : branch + begin * C, weight, out.floats() + begin * C,
                 inverse_rms + begin);
  });
}

void rms_norm_backward(const Stream& on, std::int64_t T, std::int64_t C, ConstValues d_out,
                       const float* residual, const float* weight, const float* inverse_rms,
                       float* d_residual, float* d_weight) {
  if (on.device() == Device::kCuda)
    return on_cuda().rms_norm_backward(on, T, C, d_out, residual, weight, inverse_rms, d_residual, d_weight);
  const std::int64_t blocks = (T + kRowBlock - 1) / kRowBlock;
  static thread_local Buffer<float> scratch;
  scratch.reserve(static_cast<std::size_t>(blocks * C));
  float* partial = scratch.data();  // [blocks, C]
  parallel_for(blocks, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      const std::int64_t begin = block * kRowBlock, end = std::min(T, begin + kRowBlock);
      backward_rows(end - begin, C, d_out.floats() + begin * C, residual + begin * C, weight,
                    inverse_rms + begin, d_residual + begin * C, partial + block * C);
    }
  });
  if (d_weight == nullptr) return;
  for (std::int64_t block = 0; block < blocks; ++block)
    for (std::int64_t c = 0; c < C; ++c) d_weight[c] += partial[block * C + c];
}

}  // namespace infalign::kernels
