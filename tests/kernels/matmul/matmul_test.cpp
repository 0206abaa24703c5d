// The product seam against a float64 triple loop: every transposition, strides wider than rows, both betas.
#include "kernels/matmul/matmul.h"

#include <stdexcept>

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

struct Case {
  std::int64_t m, n, k;
};

TEST(Matmul, AgreesWithReference) {
  for (const Case& test :
       {Case{1, 1, 1}, Case{1, 7, 3}, Case{5, 1, 13}, Case{31, 17, 29}, Case{64, 64, 64}, Case{67, 129, 131}})
    for (const Transpose ta : {Transpose::kNo, Transpose::kYes})
      for (const Transpose tb : {Transpose::kNo, Transpose::kYes})
        for (const float beta : {0.0f, 1.0f}) {
          const auto [m, n, k] = test;
          const bool a_turned = ta == Transpose::kYes, b_turned = tb == Transpose::kYes;
          SCOPED_TRACE(std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k));
          const std::int64_t lda = (a_turned ? m : k) + 2, ldb = (b_turned ? k : n) + 1, ldc = n + 3;
          const Floats a = normal((a_turned ? k : m) * lda, 1), b = normal((b_turned ? n : k) * ldb, 2);
          const Floats before = normal(m * ldc, 3);
          Doubles expected = widened(before);
          for (std::int64_t i = 0; i < m; ++i)
            for (std::int64_t j = 0; j < n; ++j) {
              double sum = 0;
              for (std::int64_t l = 0; l < k; ++l)
                sum +=
                    static_cast<double>(a[static_cast<std::size_t>(a_turned ? l * lda + i : i * lda + l)]) *
                    static_cast<double>(b[static_cast<std::size_t>(b_turned ? j * ldb + l : l * ldb + j)]);
              double& entry = expected[static_cast<std::size_t>(i * ldc + j)];
              entry = static_cast<double>(beta) * entry + sum;
            }
          Floats c = before;
          matmul({}, ta, tb, m, n, k, a.data(), lda, b.data(), ldb, beta, c.data(), ldc);
          expect_close(expected, c, 2e-6, "c");  // also that nothing between the rows of c was touched
        }
}

// beta = 0 must not read c: it may hold anything.
TEST(Matmul, OverwritesNan) {
  const Floats a = normal(64 * 64, 1);
  Floats c(64 * 64, NAN);
  matmul({}, Transpose::kNo, Transpose::kNo, 64, 64, 64, a.data(), 64, a.data(), 64, 0, c.data(), 64);
  for (const float value : c) ASSERT_TRUE(std::isfinite(value));
}

// Gradients of weights are products over rows; of no rows at all, nothing is added.
TEST(Matmul, EmptySumIsZero) {
  const Floats a(6), b(6);
  Floats c(6, 3.0f);
  matmul({}, Transpose::kYes, Transpose::kNo, 2, 3, 0, a.data(), 2, b.data(), 3, 1, c.data(), 3);
  EXPECT_EQ(c, Floats(6, 3.0f));
  matmul({}, Transpose::kYes, Transpose::kNo, 2, 3, 0, a.data(), 2, b.data(), 3, 0, c.data(), 3);
  EXPECT_EQ(c, Floats(6, 0.0f));
}

TEST(Matmul, SameShapeSameBits) {
  const Floats a = normal(97 * 61, 1), b = normal(61 * 83, 2);
  Floats first(97 * 83), second(97 * 83);
  for (Floats* c : {&first, &second})
    matmul({}, Transpose::kNo, Transpose::kNo, 97, 83, 61, a.data(), 61, b.data(), 83, 0, c->data(), 83);
  EXPECT_EQ(first, second);
}

TEST(Matmul, RefusalNamesTheProduct) {
  Floats a(4), c(4);
  try {
    matmul({}, Transpose::kNo, Transpose::kNo, 2, 2, 2, a.data(), 1, a.data(), 2, 0, c.data(), 2);
    FAIL() << "a leading dimension below the row length was accepted";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("lda=1"));
  }
}

}  // namespace
}  // namespace infalign::kernels
