// SwiGLU on a GPU. Bound: memory. T = 8192, F = 14336 on an H100 at 3.0 TB/s: 0.47 ms forward (12 bytes a
// result), 0.78 ms backward (20).
#include "kernels/swiglu/swiglu.h"

#include "kernels/cuda/each.h"
#include "kernels/sigmoid.h"

namespace infalign::kernels::cuda {
namespace {

struct Forward {
  std::int64_t F;
  const float* gate_up;
  float* out;
  __device__ void operator()(std::int64_t t, std::int64_t f) const {
    const float* gate = gate_up + t * 2 * F + f;
    out[t * F + f] = gate[0] * sigmoid(gate[0]) * gate[F];
  }
};

struct Backward {
  std::int64_t F;
  const float *gate_up, *d_out;
  float* d_gate_up;
  __device__ void operator()(std::int64_t t, std::int64_t f) const {
    const float* gate = gate_up + t * 2 * F + f;
    float* d_gate = d_gate_up + t * 2 * F + f;
    const float open = sigmoid(gate[0]), silu = gate[0] * open, d = d_out[t * F + f];
    d_gate[0] = d * gate[F] * (open + silu * (1.0f - open));
    d_gate[F] = d * silu;
  }
};

}  // namespace

void swiglu_forward(const Stream& on, std::int64_t T, std::int64_t F, const float* gate_up, float* out) {
  for_each_entry(on, T, F, Forward{F, gate_up, out});
}

void swiglu_backward(const Stream& on, std::int64_t T, std::int64_t F, const float* gate_up,
                     const float* d_out, float* d_gate_up) {
  for_each_entry(on, T, F, Backward{F, gate_up, d_out, d_gate_up});
}

}  // namespace infalign::kernels::cuda
