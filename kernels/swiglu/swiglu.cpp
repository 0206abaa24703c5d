// SwiGLU on the CPU: one vectorised pass each way; the backward pass computes the sigmoid again rather than
// store it.
#include "kernels/swiglu/swiglu.h"

#include "kernels/cuda/operations.h"
#include "kernels/parallel.h"
#include "kernels/sigmoid.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

constexpr std::int64_t kGrain = 32;  // rows

INFALIGN_VECTORISE
void forward_rows(std::int64_t T, std::int64_t F, const float* gate_up, float* out) {
  for (std::int64_t t = 0; t < T; ++t) {
    const float* gate = gate_up + t * 2 * F;
    const float* up = gate + F;
    float* y = out + t * F;
#pragma omp simd
    for (std::int64_t f = 0; f < F; ++f) y[f] = gate[f] * sigmoid(gate[f]) * up[f];
  }
}

INFALIGN_VECTORISE
void backward_rows(std::int64_t T, std::int64_t F, const float* gate_up, const float* d_out,
                   float* d_gate_up) {
  for (std::int64_t t = 0; t < T; ++t) {
    const float* gate = gate_up + t * 2 * F;
    const float* up = gate + F;
    const float* dy = d_out + t * F;
    float* d_gate = d_gate_up + t * 2 * F;
    float* d_up = d_gate + F;
#pragma omp simd
    for (std::int64_t f = 0; f < F; ++f) {
      const float open = sigmoid(gate[f]);
      const float silu = gate[f] * open;
      d_gate[f] = dy[f] * up[f] * (open + silu * (1.0f - open));
      d_up[f] = dy[f] * silu;
    }
  }
}

}  // namespace

void swiglu_forward(const Stream& on, std::int64_t T, std::int64_t F, ConstValues gate_up, Values out) {
  if (on.device() == Device::kCuda) return on_cuda().swiglu_forward(on, T, F, gate_up, out);
  parallel_for(T, kGrain, [&](std::int64_t begin, std::int64_t end) {
    forward_rows(end - begin, F, gate_up.floats() + begin * 2 * F, out.floats() + begin * F);
  });
}

void swiglu_backward(const Stream& on, std::int64_t T, std::int64_t F, ConstValues gate_up, ConstValues d_out,
                     Values d_gate_up) {
  if (on.device() == Device::kCuda) return on_cuda().swiglu_backward(on, T, F, gate_up, d_out, d_gate_up);
  parallel_for(T, kGrain, [&](std::int64_t begin, std::int64_t end) {
    backward_rows(end - begin, F, gate_up.floats() + begin * 2 * F, d_out.floats() + begin * F,
                  d_gate_up.floats() + begin * 2 * F);
  });
}

}  // namespace infalign::kernels
