// Transposition in squares of 8 x 8 that stay in registers; what does not fill a square goes number by
// number.
#include "kernels/attention/lanes.h"

#include <algorithm>

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

/// Walks over the heads of all lanes in order, without a division.
struct Walk {
  std::int64_t group, head_dim, skip;  // skip: from the end of a token's heads to the next token's
  std::int64_t offset = 0, in_group = 0;

  Walk(const LaneLayout& layout, std::int64_t width, std::int64_t stride)
      : group(layout.group), head_dim(width), skip(stride - layout.group * width) {}

  /// Where the next lane's head begins, from where the rows do.
  [[gnu::always_inline]] std::int64_t next() {
    const std::int64_t at = offset;
    offset += head_dim;
    if (++in_group == group) in_group = 0, offset += skip;
    return at;
  }
};

/// `count` of the eight lanes of a square are in use; the others become zero.
[[gnu::always_inline]] static inline void square_to_lanes(const float* const (&heads)[kSide],
                                                          std::int64_t count, std::int64_t head_dim,
                                                          float factor, float* to, std::int64_t lanes) {
  std::int64_t d = 0;
  for (; d + kSide <= head_dim; d += kSide) {
    Eight x[kSide];
    for (std::int64_t i = 0; i < kSide; ++i) {
      x[i] = Eight{};
      if (i < count) __builtin_memcpy(&x[i], heads[i] + d, sizeof(Eight));
    }
    transpose(x);
    for (std::int64_t i = 0; i < kSide; ++i) {
      x[i] *= factor;
      __builtin_memcpy(to + (d + i) * lanes, &x[i], sizeof(Eight));
    }
  }
  for (; d < head_dim; ++d)
    for (std::int64_t i = 0; i < kSide; ++i) to[d * lanes + i] = i < count ? heads[i][d] * factor : 0.0f;
}

[[gnu::always_inline]] static inline void square_to_rows(float* const (&heads)[kSide], std::int64_t count,
                                                         std::int64_t head_dim, const float* from,
                                                         std::int64_t lanes) {
  std::int64_t d = 0;
  for (; d + kSide <= head_dim; d += kSide) {
    Eight x[kSide];
    for (std::int64_t i = 0; i < kSide; ++i) __builtin_memcpy(&x[i], from + (d + i) * lanes, sizeof(Eight));
    transpose(x);
    for (std::int64_t i = 0; i < kSide; ++i)
      if (i < count) __builtin_memcpy(heads[i] + d, &x[i], sizeof(Eight));
  }
  for (; d < head_dim; ++d)
    for (std::int64_t i = 0; i < count; ++i) heads[i][d] = from[d * lanes + i];
}

}  // namespace

INFALIGN_VECTORISE
void rows_to_lanes(const LaneLayout& layout, std::int64_t head_dim, const float* rows, std::int64_t stride,
                   float factor, float* to) {
  const std::int64_t used = layout.tokens * layout.group;
  Walk walk(layout, head_dim, stride);
  for (std::int64_t lane = 0; lane < layout.lanes; lane += kSide) {
    const std::int64_t count = std::clamp<std::int64_t>(used - lane, 0, kSide);
    const float* heads[kSide] = {};
    for (std::int64_t i = 0; i < count; ++i) heads[i] = rows + walk.next();
    if (count == kSide)
      square_to_lanes(heads, kSide, head_dim, factor, to + lane, layout.lanes);
    else
      square_to_lanes(heads, count, head_dim, factor, to + lane, layout.lanes);
  }
}

INFALIGN_VECTORISE
void lanes_to_rows(const LaneLayout& layout, std::int64_t head_dim, const float* from, float* rows,
                   std::int64_t stride) {
  const std::int64_t used = layout.tokens * layout.group;
  Walk walk(layout, head_dim, stride);
  for (std::int64_t lane = 0; lane < used; lane += kSide) {
    const std::int64_t count = std::min(used - lane, kSide);
    float* heads[kSide] = {};
    for (std::int64_t i = 0; i < count; ++i) heads[i] = rows + walk.next();
    if (count == kSide)
      square_to_rows(heads, kSide, head_dim, from + lane, layout.lanes);
    else
      square_to_rows(heads, count, head_dim, from + lane, layout.lanes);
  }
}

}  // namespace infalign::kernels
