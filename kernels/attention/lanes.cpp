// Transposition in squares of 8 x 8 that stay in registers; what does not fill a square goes number by
// number.
#include "kernels/attention/lanes.h"

#include "kernels/vectorise.h"

namespace infalign::kernels {
namespace {

constexpr std::int64_t kSide = 8;
typedef float Eight __attribute__((vector_size(kSide * sizeof(float))));

/// In three rounds, pairs of rows exchange single numbers, then pairs, then quadruples.
[[gnu::always_inline]] static inline void transpose(Eight (&x)[kSide]) {
  Eight a[kSide], b[kSide];
  for (int i = 0; i < 8; i += 2) {
    a[i] = __builtin_shufflevector(x[i], x[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    a[i + 1] = __builtin_shufflevector(x[i], x[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {
      b[i + 2 * j] = __builtin_shufflevector(a[i + j], a[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      b[i + 2 * j + 1] = __builtin_shufflevector(a[i + j], a[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int i = 0; i < 4; ++i) {
    x[i] = __builtin_shufflevector(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    x[i + 4] = __builtin_shufflevector(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

/// Where the head of a lane begins, from where the rows do.
[[gnu::always_inline]] static inline std::int64_t head_of(const LaneLayout& layout, std::int64_t lane,
                                                          std::int64_t head_dim, std::int64_t stride) {
  return lane / layout.group * stride + lane % layout.group * head_dim;
}

INFALIGN_VECTORISE
void to_lanes(const LaneLayout& layout, std::int64_t head_dim, const float* rows, std::int64_t stride,
              float factor, float* to) {
  const std::int64_t used = layout.tokens * layout.group, lanes = layout.lanes;
  const std::int64_t square_lanes = used & -kSide, square_dim = head_dim & -kSide;
  for (std::int64_t lane = 0; lane < square_lanes; lane += kSide) {
    const float* heads[kSide];
    for (std::int64_t i = 0; i < kSide; ++i) heads[i] = rows + head_of(layout, lane + i, head_dim, stride);
    for (std::int64_t d = 0; d < square_dim; d += kSide) {
      Eight x[kSide];
      for (std::int64_t i = 0; i < kSide; ++i) __builtin_memcpy(&x[i], heads[i] + d, sizeof(Eight));
      transpose(x);
      for (std::int64_t i = 0; i < kSide; ++i) {
        x[i] *= factor;
        __builtin_memcpy(to + (d + i) * lanes + lane, &x[i], sizeof(Eight));
      }
    }
  }
  for (std::int64_t lane = 0; lane < used; ++lane) {
    const float* head = rows + head_of(layout, lane, head_dim, stride);
    for (std::int64_t d = lane < square_lanes ? square_dim : 0; d < head_dim; ++d)
      to[d * lanes + lane] = head[d] * factor;
  }
  for (std::int64_t d = 0; d < head_dim; ++d)
    for (std::int64_t lane = used; lane < lanes; ++lane) to[d * lanes + lane] = 0;
}

INFALIGN_VECTORISE
void to_rows(const LaneLayout& layout, std::int64_t head_dim, const float* from, float* rows,
             std::int64_t stride) {
  const std::int64_t used = layout.tokens * layout.group, lanes = layout.lanes;
  const std::int64_t square_lanes = used & -kSide, square_dim = head_dim & -kSide;
  for (std::int64_t lane = 0; lane < square_lanes; lane += kSide) {
    float* heads[kSide];
    for (std::int64_t i = 0; i < kSide; ++i) heads[i] = rows + head_of(layout, lane + i, head_dim, stride);
    for (std::int64_t d = 0; d < square_dim; d += kSide) {
      Eight x[kSide];
      for (std::int64_t i = 0; i < kSide; ++i)
        __builtin_memcpy(&x[i], from + (d + i) * lanes + lane, sizeof(Eight));
      transpose(x);
      for (std::int64_t i = 0; i < kSide; ++i) __builtin_memcpy(heads[i] + d, &x[i], sizeof(Eight));
    }
  }
  for (std::int64_t lane = 0; lane < used; ++lane) {
    float* head = rows + head_of(layout, lane, head_dim, stride);
    for (std::int64_t d = lane < square_lanes ? square_dim : 0; d < head_dim; ++d)
      head[d] = from[d * lanes + lane];
  }
}

}  // namespace

void rows_to_lanes(const LaneLayout& layout, std::int64_t head_dim, const float* rows, std::int64_t stride,
                   float factor, float* to) {
  to_lanes(layout, head_dim, rows, stride, factor, to);
}

void lanes_to_rows(const LaneLayout& layout, std::int64_t head_dim, const float* from, float* rows,
                   std::int64_t stride) {
  to_rows(layout, head_dim, from, rows, stride);
}

}  // namespace infalign::kernels
