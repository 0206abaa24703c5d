// Register tiles are written with GCC's vector types rather than as loops, because what matters here is that
// the whole tile of sums stays in registers.
#include "kernels/attention/tile_product.h"

#include "kernels/vectorise.h"

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
  const std::int64_t b_column = kLayout == Layout::kBlocks ? is.k * kLanes : kWidth;  // to the next vector
  const float* a = is.a + i0 * is.a_row;
  const float* b = is.b + (kLayout == Layout::kBlocks ? j0 * is.k : j0);
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
    for (int j = 0; j < kColumns; ++j) __builtin_memcpy(&row[j], b + k * b_row + j * b_column, sizeof(Lane));
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

}  // namespace

INFALIGN_VECTORISE
void tile_product(std::int64_t m, std::int64_t n, std::int64_t k, const Strided& a, const float* b,
                  std::int64_t ldb, Store store, float* c, std::int64_t ldc) {
  const Operands is{a.data, a.row, a.column, b, ldb, c, ldc, k, store};
  std::int64_t j = 0;
  for (; j + 64 <= n; j += 64) strip<16, 4, 4>(is, m, j);
  for (; j + 32 <= n; j += 32) strip<16, 8, 2>(is, m, j);
  for (; j + 16 <= n; j += 16) strip<16, 8, 1>(is, m, j);
  for (; j + 8 <= n; j += 8) strip<8, 8, 1>(is, m, j);
  for (; j < n; ++j) strip<1, 8, 1>(is, m, j);
}

INFALIGN_VECTORISE
void block_product(std::int64_t m, std::int64_t n, std::int64_t k, const Strided& a, const float* b,
                   Store store, float* c, std::int64_t ldc) {
  const Operands is{a.data, a.row, a.column, b, 0, c, ldc, k, store};
  std::int64_t j = 0;
  for (; j + 64 <= n; j += 64) strip<16, 4, 4, 1, Layout::kBlocks>(is, m, j);
  for (; j + 32 <= n; j += 32) strip<16, 8, 2, 1, Layout::kBlocks>(is, m, j);
  for (; j < n; j += 16) strip<16, 8, 1, 1, Layout::kBlocks>(is, m, j);
}

INFALIGN_VECTORISE
void few_rows_product(std::int64_t m, std::int64_t n, std::int64_t k, const Strided& a, const float* b,
                      std::int64_t ldb, Store store, float* c, std::int64_t ldc) {
  const Operands is{a.data, a.row, a.column, b, ldb, c, ldc, k, store};
  std::int64_t j = 0;
  for (; j + 64 <= n; j += 64) strip<16, 4, 4>(is, m, j);
  for (; j + 32 <= n; j += 32) strip<16, 8, 2>(is, m, j);
  for (; j + 16 <= n; j += 16) strip<16, 2, 1, 4>(is, m, j);
  for (; j + 8 <= n; j += 8) strip<8, 2, 1, 4>(is, m, j);
  for (; j < n; ++j) strip<1, 2, 1, 4>(is, m, j);
}

}  // namespace infalign::kernels
