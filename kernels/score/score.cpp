// The score head on the CPU. Rows are few, so one thread does them.
#include "kernels/score/score.h"

#include "kernels/cuda/operations.h"

namespace infalign::kernels {

void score_forward(const Stream& on, std::int64_t n, std::int64_t C, const float* hidden, const float* weight,
                   float* score) {
  if (on.device() == Device::kCuda) return on_cuda().score_forward(on, n, C, hidden, weight, score);
  for (std::int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (std::int64_t c = 0; c < C; ++c) sum += double{weight[c]} * double{hidden[i * C + c]};
    score[i] = static_cast<float>(sum);
  }
}

void score_backward(const Stream& on, std::int64_t n, std::int64_t C, const float* hidden,
                    const float* weight, const float* d_score, float* d_hidden, float* d_weight) {
  if (on.device() == Device::kCuda)
    return on_cuda().score_backward(on, n, C, hidden, weight, d_score, d_hidden, d_weight);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t c = 0; c < C; ++c) {
      d_hidden[i * C + c] = d_score[i] * weight[c];
      d_weight[c] += d_score[i] * hidden[i * C + c];
    }
}

}  // namespace infalign::kernels
