// The small product against a float64 loop: every width of tile, strides, and neighbours left alone.
#include "kernels/attention/tile_product.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

TEST(TileProduct, AgreesWithReference) {
  for (const std::int64_t m : {1, 3, 8, 15, 33})
    for (const std::int64_t n : {1, 7, 8, 16, 24, 37, 48, 64, 127})
      for (const std::int64_t k : {1, 5, 32})
        for (const Store store : {Store::kOverwrite, Store::kAdd})
          for (const bool turned : {false, true}) {
            SCOPED_TRACE(std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k));
            const std::int64_t ldb = n + 1, ldc = n + 2;
            const Floats a = normal(m * k, 1), b = normal(k * ldb, 2), before = normal(m * ldc, 3);
            const Strided strided{a.data(), turned ? 1 : k, turned ? m : 1};
            Doubles expected = widened(before);
            for (std::int64_t i = 0; i < m; ++i)
              for (std::int64_t j = 0; j < n; ++j) {
                double& entry = expected[static_cast<std::size_t>(i * ldc + j)];
                if (store == Store::kOverwrite) entry = 0;
                for (std::int64_t l = 0; l < k; ++l)
                  entry += static_cast<double>(strided.data[i * strided.row + l * strided.column]) *
                           static_cast<double>(b[static_cast<std::size_t>(l * ldb + j)]);
              }
            Floats c = before;
            tile_product(m, n, k, strided, b.data(), ldb, store, c.data(), ldc);
            expect_close(expected, c, 1e-6, "c");
            c = before;
            few_rows_product(m, n, k, strided, b.data(), ldb, store, c.data(), ldc);
            expect_close(expected, c, 1e-6, "c of few rows");
          }
}

TEST(TileProduct, BlocksAreAnotherLayoutOfTheSameProduct) {
  const std::int64_t m = 5, n = 112, k = 9;
  const Floats a = normal(m * k, 6), b = normal(k * n, 7);
  Floats blocks(b.size()), expected(static_cast<std::size_t>(m * n)), c(expected.size());
  for (std::int64_t l = 0; l < k; ++l)
    for (std::int64_t j = 0; j < n; ++j)
      blocks[static_cast<std::size_t>((j / 16 * k + l) * 16 + j % 16)] =
          b[static_cast<std::size_t>(l * n + j)];
  tile_product(m, n, k, {a.data(), k, 1}, b.data(), n, Store::kOverwrite, expected.data(), n);
  block_product(m, n, k, {a.data(), k, 1}, blocks.data(), Store::kOverwrite, c.data(), n);
  EXPECT_EQ(expected, c);
}

// What decoding relies on: a row's bits do not depend on how many rows it is computed with.
TEST(TileProduct, RowDoesNotDependOnTheOthers) {
  const std::int64_t m = 23, n = 40, k = 19;
  const Floats a = normal(m * k, 4), b = normal(k * n, 5);
  Floats together(static_cast<std::size_t>(m * n)), alone(together.size());
  tile_product(m, n, k, {a.data(), k, 1}, b.data(), n, Store::kOverwrite, together.data(), n);
  for (std::int64_t i = 0; i < m; ++i)
    tile_product(1, n, k, {a.data() + i * k, k, 1}, b.data(), n, Store::kOverwrite, alone.data() + i * n, n);
  EXPECT_EQ(together, alone);
}

}  // namespace
}  // namespace infalign::kernels
