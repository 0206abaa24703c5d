// Products with prepared weights against a float64 triple loop, in both precisions, for every use and for
// numbers of rows on all sides of the blocks' sizes.
#include "kernels/linear/linear.h"

#include <stdexcept>

#include "kernels/linear/bfloat16.h"
#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

struct Case {
  std::int64_t T, n, k;
};

std::vector<Case> cases() {
  std::vector<Case> all{{1, 1, 1}, {3, 5, 7}, {2, 64, 1}, {40, 1, 33}};
  for (const std::int64_t T : {1, 15, 16, 17, 31, 63, 64, 65, 129, 511, 512, 513, 1061})
    all.push_back({T, 37, 29});
  all.push_back({70, 131, 96});
  all.push_back({70, 256, 20});  // rows at a distance that goes badly with the cache
  all.push_back({1030, 384, 3});
  return all;
}

std::vector<Precision> precisions() {
  if (has_bfloat16()) return {Precision::kFloat32, Precision::kBfloat16};
  return {Precision::kFloat32};
}

/// The factors as a product in this precision sees them.
Doubles seen(const Floats& values, Precision precision) {
  Doubles result;
  for (const float value : values)
    result.push_back(precision == Precision::kFloat32 ? value : from_bfloat16(to_bfloat16(value)));
  return result;
}

/// op(a) [m, l] op(b) [l, n]: strides of the two indices of each factor.
Doubles product(std::int64_t m, std::int64_t n, std::int64_t inner, const Doubles& a, std::int64_t a_row,
                std::int64_t a_inner, const Doubles& b, std::int64_t b_inner, std::int64_t b_column) {
  Doubles c;
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t l = 0; l < inner; ++l)
        sum += a[static_cast<std::size_t>(i * a_row + l * a_inner)] *
               b[static_cast<std::size_t>(l * b_inner + j * b_column)];
      c.push_back(sum);
    }
  return c;
}

// A matrix that is stored in bfloat16: what is computed with it is exact in what it holds.
TEST(Linear, StoredInBfloat16AgreesWithReference) {
  std::vector<Case> all = cases();
  all.push_back({70, 40, 20000});  // widened in several pieces
  all.push_back({3, 1061, 1000});
  for (const Precision precision : precisions())
    for (const auto& [T, n, k] : all) {
      SCOPED_TRACE(std::to_string(T) + " rows, " + std::to_string(n) + " x " + std::to_string(k));
      const Floats in = normal(T * k, 1), wide = normal(n * k, 2), d_out = normal(T * n, 3);
      std::vector<Bfloat16> weight;
      for (const float value : wide) weight.push_back(to_bfloat16(value));
      const Doubles x = seen(in, precision), w = seen(wide, Precision::kBfloat16), d = seen(d_out, precision);
      for (const Use use : {Use::kScoring, Use::kSampling, Use::kTraining}) {
        Linear linear;
        linear.prepare({}, n, k, weight.data(), precision, use);
        Floats out(static_cast<std::size_t>(T * n), 77.0f);
        linear.forward({}, T, in.data(), out.data());
        expect_close(product(T, n, k, x, k, 1, w, 1, k), out, 4e-6, "out");
        if (use != Use::kTraining) continue;
        Floats d_in(static_cast<std::size_t>(T * k), 77.0f);
        linear.backward_input({}, T, d_out.data(), d_in.data());
        expect_close(product(T, k, n, d, n, 1, w, k, 1), d_in, 4e-6, "d_in");
      }
    }
}

TEST(Linear, AgreesWithReference) {
  for (const Precision precision : precisions())
    for (const auto& [T, n, k] : cases()) {
      SCOPED_TRACE(std::to_string(T) + " rows, " + std::to_string(n) + " x " + std::to_string(k));
      const Floats in = normal(T * k, 1), weight = normal(n * k, 2), d_out = normal(T * n, 3);
      const Doubles x = seen(in, precision), w = seen(weight, precision), d = seen(d_out, precision);
      for (const Use use : {Use::kScoring, Use::kSampling, Use::kTraining}) {
        Linear linear;
        linear.prepare({}, n, k, weight.data(), precision, use);
        Floats out(static_cast<std::size_t>(T * n), 77.0f);
        linear.forward({}, T, in.data(), out.data());
        expect_close(product(T, n, k, x, k, 1, w, 1, k), out, 2e-6, "out");
        if (use != Use::kTraining) {
          EXPECT_THROW(linear.backward_input({}, T, d_out.data(), out.data()), std::logic_error);
          continue;
        }
        Floats d_in(static_cast<std::size_t>(T * k), 77.0f), d_weight(static_cast<std::size_t>(n * k), 0.5f);
        linear.backward_input({}, T, d_out.data(), d_in.data());
        expect_close(product(T, k, n, d, n, 1, w, k, 1), d_in, 2e-6, "d_in");
        linear.backward_weight({}, T, d_out.data(), in.data(), d_weight.data());
        Doubles expected = product(n, k, T, d, 1, n, x, k, 1);
        for (double& value : expected) value += 0.5;  // added to what was there
        expect_close(expected, d_weight, 2e-6, "d_weight");
      }
    }
}

// What the sampler computes in small batches, the trainer computes in large ones.
TEST(Linear, ARowDoesNotDependOnOthers) {
  for (const Precision precision : precisions()) {
    const std::int64_t T = 700, n = 96, k = 64;
    const Floats in = normal(T * k, 1), weight = normal(n * k, 2);
    Linear linear;
    linear.prepare({}, n, k, weight.data(), precision, Use::kSampling);
    Floats all(static_cast<std::size_t>(T * n)), some(static_cast<std::size_t>(T * n));
    linear.forward({}, T, in.data(), all.data());
    for (const std::int64_t rows : {1, 5, 23, 64, 100, 300, 513}) {
      linear.forward({}, rows, in.data() + 7 * k, some.data());
      for (std::int64_t i = 0; i < rows * n; ++i)
        ASSERT_EQ(some[static_cast<std::size_t>(i)], all[static_cast<std::size_t>(7 * n + i)]) << rows;
    }
  }
}

TEST(Linear, PreparingAgainSeesNewWeights) {
  for (const Precision precision : precisions()) {
    Floats weight{1, 2, 3, 4};
    const Floats in{1, 1};
    Floats out(2);
    Linear linear;
    linear.prepare({}, 2, 2, weight.data(), precision, Use::kTraining);
    weight = {5, 6, 7, 8};
    linear.prepare({}, 2, 2, weight.data(), precision, Use::kTraining);
    linear.forward({}, 1, in.data(), out.data());
    EXPECT_EQ(out, (Floats{11, 15}));
    linear.backward_input({}, 1, in.data(), out.data());
    EXPECT_EQ(out, (Floats{12, 14}));
  }
}

TEST(Bfloat16, RoundsToNearestEven) {
  EXPECT_EQ(to_bfloat16(1.0f), 0x3f80);
  EXPECT_EQ(to_bfloat16(1.00390625f), 0x3f80);  // half way, to the even one below
  EXPECT_EQ(to_bfloat16(1.01171875f), 0x3f82);  // half way, to the even one above
  EXPECT_EQ(to_bfloat16(1.0039064f), 0x3f81);
  EXPECT_EQ(to_bfloat16(-2.5f), 0xc020);
  EXPECT_EQ(to_bfloat16(3.4e38f), 0x7f80);  // rounds to infinity
  EXPECT_EQ(from_bfloat16(to_bfloat16(INFINITY)), INFINITY);
  EXPECT_TRUE(std::isnan(from_bfloat16(to_bfloat16(NAN))));
  for (const std::int64_t n : {0, 1, 17, 100}) {
    const Floats from = normal(n, 1);
    std::vector<Bfloat16> to(from.size());
    round_to_bfloat16({}, n, from.data(), to.data());
    for (std::size_t i = 0; i < from.size(); ++i) {
      EXPECT_EQ(to[i], to_bfloat16(from[i]));
      EXPECT_NEAR(from_bfloat16(to[i]), from[i], std::abs(from[i]) / 256);
    }
  }
}

}  // namespace
}  // namespace infalign::kernels
