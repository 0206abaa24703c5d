// Rotary embedding on the CPU. Sines cost more than the rotation itself, so they are computed once, in
// float64, into a table that grows with the largest position seen and is kept for each set of frequencies.
#include "kernels/rotary/rotary.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <list>
#include <vector>

#include "kernels/cuda/operations.h"
#include "kernels/parallel.h"
#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

constexpr std::int64_t kGrain = 64;  // rows

/// cos_sin [positions, 2, half]: cosines of a position, then its sines.
struct Table {
  std::vector<float> frequency;  // [half]
  std::vector<float> cos_sin;
  std::int64_t positions = 0;

  void grow(std::int64_t wanted) {
    if (wanted <= positions) return;
    const std::int64_t half = std::ssize(frequency);
    wanted = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(wanted)));
    cos_sin.resize(static_cast<std::size_t>(wanted * 2 * half));
    for (std::int64_t position = positions; position < wanted; ++position) {
      float* row = cos_sin.data() + position * 2 * half;
      for (std::int64_t d = 0; d < half; ++d) {
        const double angle =
            static_cast<double>(position) * static_cast<double>(frequency[static_cast<std::size_t>(d)]);
        row[d] = static_cast<float>(std::cos(angle));
        row[half + d] = static_cast<float>(std::sin(angle));
      }
    }
    positions = wanted;
  }
};

/// The calling thread's table for these frequencies, covering `positions` positions.
const Table& table_for(std::int64_t half, const float* inverse_frequency, std::int64_t positions) {
  static thread_local std::list<Table> tables;  // a handful: one for each kind of model
  auto table = std::find_if(tables.begin(), tables.end(), [&](const Table& known) {
    return std::equal(known.frequency.begin(), known.frequency.end(), inverse_frequency,
                      inverse_frequency + half);
  });
  if (table == tables.end()) {
    tables.push_front(
        {.frequency = {inverse_frequency, inverse_frequency + half}, .cos_sin = {}, .positions = 0});
    table = tables.begin();
  }
  table->grow(positions);
  return *table;
}

/// kHalf > 0 tells the compiler the length of a half head, which it then unrolls; 0 reads it from `half`.
template <std::int64_t kHalf>
[[gnu::always_inline]] static inline void rotate_heads(std::int64_t half, std::int64_t heads,
                                                       std::int64_t head_dim, float sign,
                                                       const float* cos_sin, float* x) {
  if constexpr (kHalf > 0) half = kHalf;
  for (std::int64_t head = 0; head < heads; ++head) {
    float* low = x + head * head_dim;
    float* high = low + half;
#pragma omp simd
    for (std::int64_t d = 0; d < half; ++d) {
      const float cosine = cos_sin[d], sine = sign * cos_sin[half + d];
      const float a = low[d], b = high[d];
      low[d] = a * cosine - b * sine;
      high[d] = b * cosine + a * sine;
    }
  }
}

INFALIGN_VECTORISE
void rotate_rows(std::int64_t T, std::int64_t heads, std::int64_t head_dim, std::int64_t half, float sign,
                 const std::int32_t* positions, const float* table, float* x, std::int64_t stride) {
  for (std::int64_t t = 0; t < T; ++t) {
    const float* cos_sin = table + positions[t] * 2 * half;
    float* row = x + t * stride;
    switch (half) {
      case 4:
        rotate_heads<4>(half, heads, head_dim, sign, cos_sin, row);
        break;
      case 8:
        rotate_heads<8>(half, heads, head_dim, sign, cos_sin, row);
        break;
      case 16:
        rotate_heads<16>(half, heads, head_dim, sign, cos_sin, row);
        break;
      case 32:
        rotate_heads<32>(half, heads, head_dim, sign, cos_sin, row);
        break;
      default:
        rotate_heads<0>(half, heads, head_dim, sign, cos_sin, row);
    }
  }
}

}  // namespace

void rotary(const Stream& on, Rotation rotation, std::int64_t T, std::int64_t heads, std::int64_t head_dim,
            const std::int32_t* positions, const float* inverse_frequency, Values x, std::int64_t stride,
            std::int64_t rotary_dim) {
  if (on.device() == Device::kCuda)
    return on_cuda().rotary(on, rotation, T, heads, head_dim, positions, inverse_frequency, x, stride,
                            rotary_dim);
  if (T == 0) return;
  const std::int64_t half = (rotary_dim == 0 ? head_dim : rotary_dim) / 2;
  const Table& table = table_for(half, inverse_frequency, *std::max_element(positions, positions + T) + 1);
  const float sign = rotation == Rotation::kForward ? 1.0f : -1.0f;
  parallel_for(T, kGrain, [&](std::int64_t begin, std::int64_t end) {
    rotate_rows(end - begin, heads, head_dim, half, sign, positions + begin, table.cos_sin.data(),
                x.floats() + begin * stride, stride);
  });
}

}  // namespace infalign::kernels
