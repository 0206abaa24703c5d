// Biases on the CPU. The gradient is split over columns, not rows, so that each sum keeps its order on any
// number of threads.
#include "kernels/bias/bias.h"

#include "kernels/cuda/operations.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

constexpr std::int64_t kRowGrain = 64, kColumnGrain = 64;

INFALIGN_VECTORISE
void add_to_rows(std::int64_t T, std::int64_t n, const float* bias, float* x) {
  for (std::int64_t t = 0; t < T; ++t) {
    float* row = x + t * n;
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) row[i] += bias[i];
  }
}

INFALIGN_VECTORISE
void add_columns(std::int64_t T, std::int64_t n, std::int64_t begin, std::int64_t end, const float* d_x,
                 float* d_bias) {
  for (std::int64_t t = 0; t < T; ++t) {
    const float* row = d_x + t * n;
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) d_bias[i] += row[i];
  }
}

}  // namespace

void bias_forward(const Stream& on, std::int64_t T, std::int64_t n, const float* bias, Values x) {
  if (on.device() == Device::kCuda) return on_cuda().bias_forward(on, T, n, bias, x);
  parallel_for(T, kRowGrain, [&](std::int64_t begin, std::int64_t end) {
    add_to_rows(end - begin, n, bias, x.floats() + begin * n);
  });
}

void bias_backward(const Stream& on, std::int64_t T, std::int64_t n, ConstValues d_x, float* d_bias) {
  if (on.device() == Device::kCuda) return on_cuda().bias_backward(on, T, n, d_x, d_bias);
  parallel_for(n, kColumnGrain, [&](std::int64_t begin, std::int64_t end) {
    add_columns(T, n, begin, end, d_x.floats(), d_bias);
  });
}

}  // namespace infalign::kernels
