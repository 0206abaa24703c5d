// Soft-capping on a GPU. Bound: memory. The logits of 128 tokens of V = 256000 on an H100 at 3.0 TB/s: 0.09
// ms forward (8 bytes an entry), 0.13 ms backward (12).
#include "kernels/softcap/softcap.h"

#include "kernels/cuda/each.h"
#include "kernels/hyperbolic_tangent.h"

namespace infalign::kernels::cuda {
namespace {

struct Cap {
  float cap;
  float* x;
  __device__ void operator()(std::int64_t i) const { x[i] = cap * hyperbolic_tangent(x[i] / cap); }
};

struct Slope {
  float cap;
  const float* capped;
  float* d;
  __device__ void operator()(std::int64_t i) const {
    const float tangent = capped[i] / cap;
    d[i] *= 1.0f - tangent * tangent;
  }
};

}  // namespace

void softcap_forward(const Stream& on, std::int64_t n, float cap, float* x) {
  for_each_index(on, n, Cap{cap, x});
}

void softcap_backward(const Stream& on, std::int64_t n, float cap, const float* capped, float* d) {
  for_each_index(on, n, Slope{cap, capped, d});
}

}  // namespace infalign::kernels::cuda
