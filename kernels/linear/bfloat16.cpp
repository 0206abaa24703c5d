#include "kernels/linear/bfloat16.h"

#include "kernels/cuda/operations.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

constexpr std::int64_t kGrain = 1 << 14;  // values

INFALIGN_VECTORISE
void convert(std::int64_t count, const float* from, Bfloat16* to) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) to[i] = to_bfloat16(from[i]);
}

INFALIGN_VECTORISE
void widen(std::int64_t count, const Bfloat16* from, float* to) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) to[i] = from_bfloat16(from[i]);
}

}  // namespace

void round_to_bfloat16(const Stream& on, std::int64_t count, const float* from, Bfloat16* to) {
  if (on.device() == Device::kCuda) return on_cuda().round_to_bfloat16(on, count, from, to);
  parallel_for(count, kGrain,
               [&](std::int64_t begin, std::int64_t end) { convert(end - begin, from + begin, to + begin); });
}

void widen_bfloat16(const Stream& on, std::int64_t count, const Bfloat16* from, float* to) {
  if (on.device() == Device::kCuda) return on_cuda().widen_bfloat16(on, count, from, to);
  parallel_for(count, kGrain,
               [&](std::int64_t begin, std::int64_t end) { widen(end - begin, from + begin, to + begin); });
}

}  // namespace infalign::kernels
