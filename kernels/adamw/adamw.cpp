// AdamW on the CPU, one fused pass that memory bandwidth limits. Each line is written so that only one fused
// multiply-add can be made of it: the vector body of the loop and its remainder then round alike, and a
// parameter's update does not depend on where its shard begins.
#include "kernels/adamw/adamw.h"

#include <cmath>

#include "kernels/adamw/constants.h"
#include "kernels/cuda/operations.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

constexpr std::int64_t kGrain = 16384;

INFALIGN_VECTORISE
void update(const AdamWConstants& k, std::int64_t n, const float* gradient, float* parameter,
            float* first_moment, float* second_moment) {
  const AdamWConstants is = k;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = gradient[i] * is.gradient_scale;
    const float m = first_moment[i] + is.forget1 * (g - first_moment[i]);
    const float v = second_moment[i] + is.forget2 * (g * g - second_moment[i]);
    first_moment[i] = m;
    second_moment[i] = v;
    const float direction = m / (std::sqrt(v) * is.root_scale + is.epsilon);
    const float decayed = parameter[i] - is.decay * parameter[i];
    parameter[i] = decayed - is.rate * direction;
  }
}

}  // namespace

void adamw(const Stream& on, const AdamWStep& hyper, std::int64_t n, const float* gradient, float* parameter,
           float* first_moment, float* second_moment) {
  if (on.device() == Device::kCuda)
    return on_cuda().adamw(on, hyper, n, gradient, parameter, first_moment, second_moment);
  const AdamWConstants constants(hyper);
  parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    update(constants, end - begin, gradient + begin, parameter + begin, first_moment + begin,
           second_moment + begin);
  });
}

}  // namespace infalign::kernels
