// SwiGLU on a GPU. Bound: memory. T = 8192, F = 14336 in float32 on an H100 at 3.0 TB/s: 0.47 ms forward (12
// bytes a result), 0.78 ms backward (20); in bfloat16 half of that.
#include "kernels/swiglu/swiglu.h"

#include "kernels/cuda/gated.h"
#include "kernels/sigmoid.h"

namespace infalign::kernels::cuda {
namespace {

struct Silu {
  struct Point {
    float value, slope;
  };
  __device__ static Point at(float x) {
    const float open = sigmoid(x), silu = x * open;
    return {silu, open + silu * (1.0f - open)};
  }
};

}  // namespace

void swiglu_forward(const Stream& on, std::int64_t T, std::int64_t F, ConstValues gate_up, Values out) {
  gated_forward<Silu>(on, T, F, gate_up, out);
}

void swiglu_backward(const Stream& on, std::int64_t T, std::int64_t F, ConstValues gate_up, ConstValues d_out,
                     Values d_gate_up) {
  gated_backward<Silu>(on, T, F, gate_up, d_out, d_gate_up);
}

}  // namespace infalign::kernels::cuda
