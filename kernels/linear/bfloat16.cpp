#include "kernels/linear/bfloat16.h"

#include <algorithm>

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

/// Parameters [begin, end), those of one draw together.
void round_interval(std::uint64_t seed, std::uint32_t step, std::int64_t begin, std::int64_t end,
                    const float* from, Bfloat16* to) {
  for (std::int64_t parameter = begin; parameter < end;) {
    const auto draw = rounding_draw(seed, step, parameter);
    const std::int64_t last = std::min(end, (parameter / kOfOneDraw + 1) * kOfOneDraw);
    for (; parameter < last; ++parameter)
      to[parameter - begin] = to_bfloat16(from[parameter - begin], rounding_bits(draw, parameter));
  }
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

void round_at_random(const Stream& on, std::uint64_t seed, std::uint32_t step, std::int64_t first,
                     std::int64_t count, const float* from, Bfloat16* to) {
  if (on.device() == Device::kCuda) return on_cuda().round_at_random(on, seed, step, first, count, from, to);
  parallel_for(count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    round_interval(seed, step, first + begin, first + end, from + begin, to + begin);
  });
}

void widen_bfloat16(const Stream& on, std::int64_t count, const Bfloat16* from, float* to) {
  if (on.device() == Device::kCuda) return on_cuda().widen_bfloat16(on, count, from, to);
  parallel_for(count, kGrain,
               [&](std::int64_t begin, std::int64_t end) { widen(end - begin, from + begin, to + begin); });
}

}  // namespace infalign::kernels
