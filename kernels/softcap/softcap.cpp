// Soft-capping on the CPU: one vectorised pass each way.
#include "kernels/softcap/softcap.h"

#include "kernels/cuda/operations.h"
#include "kernels/hyperbolic_tangent.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

INFALIGN_VECTORISE
void cap_values(std::int64_t n, float cap, float* x) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) x[i] = cap * hyperbolic_tangent(x[i] / cap);
}

INFALIGN_VECTORISE
void apply_slopes(std::int64_t n, float cap, const float* capped, float* d) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float tangent = capped[i] / cap;
    d[i] *= 1.0f - tangent * tangent;
  }
}

}  // namespace

void softcap_forward(const Stream& on, std::int64_t n, float cap, float* x) {
  if (on.device() == Device::kCuda) return on_cuda().softcap_forward(on, n, cap, x);
  parallel_for(n, kGrain,
               [&](std::int64_t begin, std::int64_t end) { cap_values(end - begin, cap, x + begin); });
}

void softcap_backward(const Stream& on, std::int64_t n, float cap, const float* capped, float* d) {
  if (on.device() == Device::kCuda) return on_cuda().softcap_backward(on, n, cap, capped, d);
  parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    apply_slopes(end - begin, cap, capped + begin, d + begin);
  });
}

}  // namespace infalign::kernels
