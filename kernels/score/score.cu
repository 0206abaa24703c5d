// The score head on a GPU. Bound: memory, and so little of it (512 rows of 4096: 8 MiB, 3 us on an H100) that
// the launch is what one waits for.
#include "kernels/score/score.h"

#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/reduce.h"

namespace infalign::kernels::cuda {
namespace {

/// A warp a row.
__global__ void __launch_bounds__(kEachThreads)
    score_row(std::int64_t n, std::int64_t C, const float* hidden, const float* weight, float* score) {
  const unsigned lane = threadIdx.x % kWarp;
  const std::int64_t i = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  if (i >= n) return;  // the whole warp
  double sum = 0;
  for (std::int64_t c = lane; c < C; c += kWarp)
    sum += static_cast<double>(weight[c]) * static_cast<double>(hidden[i * C + c]);
  sum = warp_reduce(sum, Sum());
  if (lane == 0) score[i] = static_cast<float>(sum);
}

struct HiddenGradient {
  std::int64_t C;
  const float *weight, *d_score;
  float* d_hidden;
  __device__ void operator()(std::int64_t i, std::int64_t c) const {
    d_hidden[i * C + c] = d_score[i] * weight[c];
  }
};

struct WeightTerm {
  std::int64_t C;
  const float *hidden, *d_score;
  __device__ float operator()(std::int64_t i, std::int64_t c) const { return d_score[i] * hidden[i * C + c]; }
};

}  // namespace

void score_forward(const Stream& on, std::int64_t n, std::int64_t C, const float* hidden, const float* weight,
                   float* score) {
  launch(on, score_row, as_grid(pieces(n * kWarp, kEachThreads)), kEachThreads, 0, n, C, hidden, weight,
         score);
}

void score_backward(const Stream& on, std::int64_t n, std::int64_t C, const float* hidden,
                    const float* weight, const float* d_score, float* d_hidden, float* d_weight) {
  for_each_entry(on, n, C, HiddenGradient{C, weight, d_score, d_hidden});
  add_column_sums(on, n, C, WeightTerm{C, hidden, d_score}, d_weight);
}

}  // namespace infalign::kernels::cuda
