// Register tiles are written with GCC's vector types rather than as loops, because what matters here is that
// the whole tile of sums stays in registers. So a tile's shape follows from the processor: 32 registers of 16
// floats with AVX-512, 16 of 8 with AVX2, 16 of 4 without. A vector type wider than the processor's would
// live on the stack, many times as slow. The shape decides no bits: an entry is the same chain in any.
#include "kernels/attention/tile_product.h"

namespace infalign::kernels {
namespace {

template <int kWidth>
struct Vector {
  typedef float Type __attribute__((vector_size(kWidth * sizeof(float))));
};
template <>
struct Vector<1> {
  typedef float Type;
};

/// How b is stored: row by row, or as [n / 16, k, 16].
enum class Layout { kRows, kBlocks };

struct Operands {
  const float* a;
  std::int64_t a_row, a_column;
  const float* b;
  std::int64_t ldb;
  float* c;
  std::int64_t ldc;
  std::int64_t k;
  Store store;
};

/// kRows x (kColumns * kWidth) entries of c, each the sum of kChains chains: entry k of the sum goes to chain
/// k mod kChains, but the last few, which do not make up a round of all chains, to the first.
template <int kWidth, int kRows, int kColumns, int kChains, Layout kLayout>
[[gnu::always_inline]] static inline void tile(const Operands& is, std::int64_t i0, std::int64_t j0) {
  using Lane = typename Vector<kWidth>::Type;
  const std::int64_t b_row = kLayout == Layout::kBlocks ? kLanes : is.ldb;
  const auto b_column = [&](std::int64_t j) {  // where vector j of the tile is
    const std::int64_t column = j * kWidth;
    return kLayout == Layout::kBlocks ? column / kLanes * is.k * kLanes + column % kLanes : column;
  };
  const float* a = is.a + i0 * is.a_row;
  const float* b = is.b + (kLayout == Layout::kBlocks ? j0 / kLanes * is.k * kLanes + j0 % kLanes : j0);
  float* c = is.c + i0 * is.ldc + j0;
  Lane sum[kChains][kRows][kColumns];
  for (int chain = 0; chain < kChains; ++chain)
    for (int i = 0; i < kRows; ++i)
      for (int j = 0; j < kColumns; ++j) {
        if (chain == 0 && is.store == Store::kAdd)
          __builtin_memcpy(&sum[chain][i][j], c + i * is.ldc + j * kWidth, sizeof(Lane));
        else
          sum[chain][i][j] = Lane{};
      }
  const auto add = [&](std::int64_t k, Lane(&chain)[kRows][kColumns]) __attribute__((always_inline)) {
    Lane row[kColumns];
    for (int j = 0; j < kColumns; ++j) __builtin_memcpy(&row[j], b + k * b_row + b_column(j), sizeof(Lane));
    for (int i = 0; i < kRows; ++i) {
      const float factor = a[i * is.a_row + k * is.a_column];
      for (int j = 0; j < kColumns; ++j) chain[i][j] += factor * row[j];
    }
  };
  std::int64_t k = 0;
  for (; k + kChains <= is.k; k += kChains)
    for (int chain = 0; chain < kChains; ++chain) add(k + chain, sum[chain]);
  if constexpr (kChains > 1)
    for (; k < is.k; ++k) add(k, sum[0]);
  for (int i = 0; i < kRows; ++i)
    for (int j = 0; j < kColumns; ++j) {
      for (int half = kChains / 2; half > 0; half /= 2)
        for (int chain = 0; chain < half; ++chain) sum[chain][i][j] += sum[chain + half][i][j];
      __builtin_memcpy(c + i * is.ldc + j * kWidth, &sum[0][i][j], sizeof(Lane));
    }
}

/// All m rows of kColumns vectors from column j0: tiles of kRows, then of one row.
template <int kWidth, int kRows, int kColumns, int kChains = 1, Layout kLayout = Layout::kRows>
[[gnu::always_inline]] static inline void strip(const Operands& is, std::int64_t m, std::int64_t j0) {
  std::int64_t i = 0;
  for (; i + kRows <= m; i += kRows) tile<kWidth, kRows, kColumns, kChains, kLayout>(is, i, j0);
  if constexpr (kRows > 4)
    for (; i + 4 <= m; i += 4) tile<kWidth, 4, kColumns, kChains, kLayout>(is, i, j0);
  if constexpr (kRows > 2)
    for (; i + 2 <= m; i += 2) tile<kWidth, 2, kColumns, kChains, kLayout>(is, i, j0);
  for (; i < m; ++i) tile<kWidth, 1, kColumns, kChains, kLayout>(is, i, j0);
}

/// Columns from j on as far as whole vectors go, in tiles that fill the registers of a processor with vectors
/// of kNative floats; returns the column after the last.
template <int kNative, Layout kLayout>
[[gnu::always_inline]] static inline std::int64_t whole_vectors(const Operands& is, std::int64_t m,
                                                                std::int64_t n, std::int64_t j) {
  if constexpr (kNative == 16) {
    for (; j + 64 <= n; j += 64) strip<16, 4, 4, 1, kLayout>(is, m, j);
    for (; j + 32 <= n; j += 32) strip<16, 8, 2, 1, kLayout>(is, m, j);
  } else {
    for (; j + 2 * kNative <= n; j += 2 * kNative) strip<kNative, 6, 2, 1, kLayout>(is, m, j);
  }
  for (; j + kNative <= n; j += kNative) strip<kNative, 8, 1, 1, kLayout>(is, m, j);
  return j;
}

template <int kNative>
[[gnu::always_inline]] static inline void all_of_tile_product(const Operands& is, std::int64_t m,
                                                              std::int64_t n) {
  std::int64_t j = whole_vectors<kNative, Layout::kRows>(is, m, n, 0);
  if constexpr (kNative == 16)
    for (; j + 8 <= n; j += 8) strip<8, 8, 1>(is, m, j);
  for (; j < n; ++j) strip<1, 8, 1>(is, m, j);
}

template <int kNative>
[[gnu::always_inline]] static inline void all_of_block_product(const Operands& is, std::int64_t m,
                                                               std::int64_t n) {
  whole_vectors<kNative, Layout::kBlocks>(is, m, n, 0);
}

template <int kNative>
[[gnu::always_inline]] static inline void all_of_few_rows_product(const Operands& is, std::int64_t m,
                                                                  std::int64_t n) {
  std::int64_t j = whole_vectors<kNative, Layout::kRows>(is, m, n / 32 * 32, 0);
  for (; j + kNative <= n; j += kNative) strip<kNative, 2, 1, 4>(is, m, j);
  if constexpr (kNative == 16)
    for (; j + 8 <= n; j += 8) strip<8, 2, 1, 4>(is, m, j);
  for (; j < n; ++j) strip<1, 2, 1, 4>(is, m, j);
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(INFALIGN_SANITIZED)
#define INFALIGN_FOR_EACH_PROCESSOR(NAME)                                                           \
  [[gnu::target("arch=x86-64-v4")]] void NAME(const Operands& is, std::int64_t m, std::int64_t n) { \
    all_of_##NAME<16>(is, m, n);                                                                    \
  }                                                                                                 \
  [[gnu::target("arch=x86-64-v3")]] void NAME(const Operands& is, std::int64_t m, std::int64_t n) { \
    all_of_##NAME<8>(is, m, n);                                                                     \
  }                                                                                                 \
  [[gnu::target("default")]] void NAME(const Operands& is, std::int64_t m, std::int64_t n) {        \
    all_of_##NAME<4>(is, m, n);                                                                     \
  }
#else
#define INFALIGN_FOR_EACH_PROCESSOR(NAME) \
  void NAME(const Operands& is, std::int64_t m, std::int64_t n) { all_of_##NAME<4>(is, m, n); }
#endif

INFALIGN_FOR_EACH_PROCESSOR(tile_product)
INFALIGN_FOR_EACH_PROCESSOR(block_product)
INFALIGN_FOR_EACH_PROCESSOR(few_rows_product)

}  // namespace

void tile_product(std::int64_t m, std::int64_t n, std::int64_t k, const Strided& a, const float* b,
                  std::int64_t ldb, Store store, float* c, std::int64_t ldc) {
  tile_product({a.data, a.row, a.column, b, ldb, c, ldc, k, store}, m, n);
}

void block_product(std::int64_t m, std::int64_t n, std::int64_t k, const Strided& a, const float* b,
                   Store store, float* c, std::int64_t ldc) {
  block_product({a.data, a.row, a.column, b, 0, c, ldc, k, store}, m, n);
}

void few_rows_product(std::int64_t m, std::int64_t n, std::int64_t k, const Strided& a, const float* b,
                      std::int64_t ldb, Store store, float* c, std::int64_t ldc) {
  few_rows_product({a.data, a.row, a.column, b, ldb, c, ldc, k, store}, m, n);
}

}  // namespace infalign::kernels
