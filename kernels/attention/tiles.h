// The two inner operations of attention, shared by training and decoding: a product of small strided tiles
// that stays in registers, and a softmax over rows of scores with holes in them. They are apart from `matmul`
// because attention's products are too small and too oddly laid out for a library call each.
#pragma once

#include <cstdint>

namespace infalign::kernels {

/// Scratch rows are padded to whole vectors of this many floats.
inline constexpr std::int64_t kLanes = 16;
constexpr std::int64_t padded(std::int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }
/// Head dimensions are padded to half a vector, since small models have heads of 8.
constexpr std::int64_t padded_head(std::int64_t head_dim) { return (head_dim + 7) / 8 * 8; }

/// A float matrix to be read element by element: entry (i, k) at data[i * row + k * column].
struct Strided {
  const float* data = nullptr;
  std::int64_t row = 0;
  std::int64_t column = 0;
};

enum class Store { kOverwrite, kAdd };

/// c [m, n] = or += a [m, k] b [k, n]; rows of b and c are ldb and ldc apart, n is fastest if a multiple
/// of 8. Every entry is one chain of multiply-adds in ascending k, so it does not depend on m, n or its place
/// in the tile.
void tile_product(std::int64_t m, std::int64_t n, std::int64_t k, const Strided& a, const float* b,
                  std::int64_t ldb, Store store, float* c, std::int64_t ldc);

/// Where the scores of a query lie in its scratch row: those of the shared prefix from 0, its own from
/// padded(prefix). Row r counts `prefix` scores of the former and own[r] of the latter; the others are not to
/// be looked at.
struct ScoreRows {
  float* scores = nullptr;  // [rows, stride]
  std::int64_t rows = 0;
  std::int64_t stride = 0;
  std::int64_t prefix = 0;
  const std::int32_t* own = nullptr;  // [rows]
};

/// Replaces each score by exp(score - maximum of its row), and by 0 where there is none. maximum, sum [rows].
void exponentiate_rows(const ScoreRows& at, float* maximum, float* sum);

/// Replaces each score by exp(score - log_sum_exp of its row), and by 0 where there is none.
void probability_rows(const ScoreRows& at, const float* log_sum_exp);

}  // namespace infalign::kernels
