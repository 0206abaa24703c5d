// A product of small strided matrices that stays in registers, shared by training and decoding. It is apart
// from `matmul` because attention's products are too small and too oddly laid out for a library call each.
#pragma once

#include <cstdint>

namespace infalign::kernels {

/// Floats in the widest vector. Scratch matrices have rows of whole vectors.
inline constexpr std::int64_t kLanes = 16;
constexpr std::int64_t padded(std::int64_t n) { return (n + kLanes - 1) & -kLanes; }

/// A float matrix to be read element by element: entry (i, k) at data[i * row + k * column].
struct Strided {
  const float* data = nullptr;
  std::int64_t row = 0;
  std::int64_t column = 0;
};

enum class Store { kOverwrite, kAdd };

/// c [m, n] = or += a [m, k] b [k, n]; rows of b and c are ldb and ldc apart; n is best a multiple of 16,
/// good a multiple of 8. Every entry is one chain of multiply-adds in ascending k, whatever m and n.
void tile_product(std::int64_t m, std::int64_t n, std::int64_t k, const Strided& a, const float* b,
                  std::int64_t ldb, Store store, float* c, std::int64_t ldc);

/// The same with b in blocks of 16 columns, [n / 16, k, 16]; n is a multiple of 16.
void block_product(std::int64_t m, std::int64_t n, std::int64_t k, const Strided& a, const float* b,
                   Store store, float* c, std::int64_t ldc);

/// As tile_product, for few rows and a long sum, where narrow results would leave the processor waiting for
/// the one chain of each entry: there an entry is the sum of four chains. Its bits do not depend on m either.
void few_rows_product(std::int64_t m, std::int64_t n, std::int64_t k, const Strided& a, const float* b,
                      std::int64_t ldb, Store store, float* c, std::int64_t ldc);

}  // namespace infalign::kernels
