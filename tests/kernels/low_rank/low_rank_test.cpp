// Low-rank updates against the matrix they stand for, in float64: the product, all gradients, and the matrix
// with the update added.
#include "kernels/low_rank/low_rank.h"

#include <string>

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

struct Case {
  std::int64_t T, n, k, rank;
  std::vector<UpdatedRows> parts;

  std::int64_t width() const { return static_cast<std::int64_t>(parts.size()) * rank; }
  std::int64_t rows() const {
    std::int64_t sum = 0;
    for (const UpdatedRows& part : parts) sum += part.rows;
    return sum;
  }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::int64_t T : {1, 3, 4, 15, 64, 511, 512, 513, 1061})
    all.push_back({T, 37, 29, 4, {{0, 37}}});
  all.push_back({21, 200, 33, 16, {{0, 70}, {135, 65}}});  // rows between them are as they were
  all.push_back({9, 128, 64, 8, {{0, 64}, {64, 32}, {96, 32}}});
  all.push_back({5, 1, 7, 1, {{0, 1}}});
  return all;
}

constexpr float kScale = 0.75f;

/// scale B A as a matrix [n, k], zero where nothing is updated.
Doubles update(const Case& c, const Doubles& a, const Doubles& b) {
  Doubles weight(static_cast<std::size_t>(c.n * c.k));
  std::int64_t above = 0, part = 0;
  for (const UpdatedRows& rows : c.parts) {
    for (std::int64_t j = 0; j < rows.rows; ++j)
      for (std::int64_t i = 0; i < c.k; ++i)
        for (std::int64_t r = 0; r < c.rank; ++r)
          weight[static_cast<std::size_t>((rows.first + j) * c.k + i)] +=
              double{kScale} * b[static_cast<std::size_t>((above + j) * c.rank + r)] *
              a[static_cast<std::size_t>((part * c.rank + r) * c.k + i)];
    above += rows.rows;
    ++part;
  }
  return weight;
}

/// start [T, n] + in weight^T.
Doubles added(const Case& c, const Doubles& start, const Doubles& in, const Doubles& weight) {
  Doubles out = start;
  for (std::int64_t t = 0; t < c.T; ++t)
    for (std::int64_t j = 0; j < c.n; ++j)
      for (std::int64_t i = 0; i < c.k; ++i)
        out[static_cast<std::size_t>(t * c.n + j)] +=
            in[static_cast<std::size_t>(t * c.k + i)] * weight[static_cast<std::size_t>(j * c.k + i)];
  return out;
}

class Updates : public ::testing::TestWithParam<Case> {
 protected:
  const Case& c = GetParam();
  const Floats a = normal(c.width() * c.k, 1), b = normal(c.rows() * c.rank, 2), in = normal(c.T * c.k, 3);
  LowRank prepared() const {
    LowRank update;
    update.prepare({}, c.n, c.k, c.rank, kScale, c.parts, a.data(), b.data());
    return update;
  }
};
INSTANTIATE_TEST_SUITE_P(Shapes, Updates, ::testing::ValuesIn(cases()), [](const auto& param) {
  const Case& c = param.param;
  return std::to_string(c.T) + "_rows_" + std::to_string(c.n) + "x" + std::to_string(c.k) + "_rank_" +
         std::to_string(c.rank) + "_parts_" + std::to_string(c.parts.size());
});

TEST_P(Updates, AddToTheProduct) {
  Floats out = normal(c.T * c.n, 4);
  const Doubles expected = added(c, widened(out), widened(in), update(c, widened(a), widened(b)));
  prepared().forward({}, c.T, in.data(), out.data());
  expect_close(expected, out, 2e-6, "out");
}

TEST_P(Updates, GradientsAreThoseOfTheMatrixTheyStandFor) {
  const Floats d_out = normal(c.T * c.n, 5);
  Floats d_in = normal(c.T * c.k, 6), d_a(a.size(), 0.5f), d_b(b.size(), -0.5f);
  const Doubles weight = update(c, widened(a), widened(b));
  Doubles expected_in = widened(d_in), d_weight(weight.size());
  for (std::int64_t t = 0; t < c.T; ++t)
    for (std::int64_t j = 0; j < c.n; ++j)
      for (std::int64_t i = 0; i < c.k; ++i) {
        const double d = d_out[static_cast<std::size_t>(t * c.n + j)];
        expected_in[static_cast<std::size_t>(t * c.k + i)] +=
            d * weight[static_cast<std::size_t>(j * c.k + i)];
        d_weight[static_cast<std::size_t>(j * c.k + i)] +=
            d * double{in[static_cast<std::size_t>(t * c.k + i)]};
      }
  Doubles expected_a(a.size(), 0.5), expected_b(b.size(), -0.5);
  std::int64_t above = 0, part = 0;
  for (const UpdatedRows& rows : c.parts) {
    for (std::int64_t j = 0; j < rows.rows; ++j)
      for (std::int64_t r = 0; r < c.rank; ++r)
        for (std::int64_t i = 0; i < c.k; ++i) {
          const double d = double{kScale} * d_weight[static_cast<std::size_t>((rows.first + j) * c.k + i)];
          const auto at_a = static_cast<std::size_t>((part * c.rank + r) * c.k + i);
          const auto at_b = static_cast<std::size_t>((above + j) * c.rank + r);
          expected_a[at_a] += d * double{b[at_b]};
          expected_b[at_b] += d * double{a[at_a]};
        }
    above += rows.rows;
    ++part;
  }
  prepared().backward({}, c.T, d_out.data(), in.data(), d_in.data(), d_a.data(), d_b.data());
  expect_close(expected_in, d_in, 3e-6, "d_in");
  expect_close(expected_a, d_a, 3e-6, "d_a");
  expect_close(expected_b, d_b, 3e-6, "d_b");
}

TEST_P(Updates, CanBeAddedToTheMatrix) {
  Floats weight = normal(c.n * c.k, 7);
  Doubles expected = update(c, widened(a), widened(b));
  for (std::size_t i = 0; i < weight.size(); ++i) expected[i] += double{weight[i]};
  prepared().add_to({}, weight.data());
  expect_close(expected, weight, 2e-6, "weight");
}

// The sampler decodes a few rows at a time, the trainer reads them among many.
TEST_P(Updates, ARowDoesNotDependOnOthers) {
  const LowRank update = prepared();
  Floats together(static_cast<std::size_t>(c.T * c.n)), alone = together;
  update.forward({}, c.T, in.data(), together.data());
  for (std::int64_t t = 0; t < c.T; ++t) update.forward({}, 1, in.data() + t * c.k, alone.data() + t * c.n);
  EXPECT_EQ(together, alone);
}

TEST(LowRank, NothingIsAddedWhereThereIsNothing) {
  LowRank none;
  EXPECT_TRUE(none.empty());
  none.prepare({}, 4, 4, 2, 1, {}, nullptr, nullptr);
  EXPECT_TRUE(none.empty());
}

}  // namespace
}  // namespace infalign::kernels
