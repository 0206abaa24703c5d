// Sampling against the cumulative distribution in float64: deterministic given its uniform numbers, so almost
// every test is exact; one is statistical.
#include "kernels/sampling/sampling.h"

#include <limits>
#include <numeric>

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

constexpr double kAlmostOne = 1 - 0x1.0p-53;

struct Drawn {
  std::vector<std::int32_t> token;
  Floats log_probability, log_probability_at_1;
};

Drawn draw(const SamplingShape& shape, Floats logits, const Doubles& uniform) {
  const auto rows = static_cast<std::size_t>(shape.rows);
  Drawn drawn{std::vector<std::int32_t>(rows, -1), Floats(rows), Floats(rows)};
  sample_tokens({}, shape, logits.data(), uniform.data(), drawn.token.data(), drawn.log_probability.data(),
                drawn.log_probability_at_1.data());
  return drawn;
}

/// softmax(logits / temperature) of row i.
Doubles probabilities(const Floats& logits, std::int64_t i, std::int64_t V, double temperature) {
  Doubles p;
  const auto row = logits.begin() + i * V;
  const double most = *std::max_element(row, row + V);
  for (std::int64_t v = 0; v < V; ++v)
    p.push_back(std::exp((static_cast<double>(row[v]) - most) / temperature));
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= total;
  return p;
}

Doubles uniforms(std::int64_t n, std::uint32_t seed) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> distribution(0, 1);
  Doubles u(static_cast<std::size_t>(n));
  for (double& value : u) value = distribution(engine);
  return u;
}

TEST(Sampling, InvertsTheCumulativeDistribution) {
  for (const std::int64_t V : {1, 2, 127, 128, 129, 1031})
    for (const float temperature : {1.0f, 0.5f, 2.0f}) {
      const SamplingShape shape{.rows = 53, .vocabulary = V, .temperature = temperature};
      const Floats logits = normal(shape.rows * V, 1, 2);
      const Doubles u = uniforms(shape.rows, 2);
      const Drawn drawn = draw(shape, logits, u);
      Doubles log_probability, at_1;
      for (std::int64_t i = 0; i < shape.rows; ++i) {
        const Doubles p = probabilities(logits, i, V, static_cast<double>(temperature));
        const auto token = static_cast<std::size_t>(drawn.token[static_cast<std::size_t>(i)]);
        ASSERT_LT(token, p.size());
        const double below = std::accumulate(p.begin(), p.begin() + static_cast<std::ptrdiff_t>(token), 0.0);
        // Up to float32 rounding of the sums, u lies in the token's interval.
        EXPECT_GE(u[static_cast<std::size_t>(i)], below - 1e-6);
        EXPECT_LE(u[static_cast<std::size_t>(i)], below + p[token] + 1e-6);
        log_probability.push_back(std::log(p[token]));
        at_1.push_back(std::log(probabilities(logits, i, V, 1)[token]));
      }
      expect_close(log_probability, drawn.log_probability, 1e-6, "log_probability");
      expect_close(at_1, drawn.log_probability_at_1, 1e-6, "log_probability_at_1");
    }
}

// Pearson's chi-square, 12 degrees of freedom; the seed is fixed, for a random one the false alarm rate is
// 1e-6.
TEST(Sampling, FrequenciesFollowTheSoftmax) {
  const std::int64_t V = 13, n = 40000;
  const Floats one_row = normal(V, 3);
  Floats logits;
  for (std::int64_t i = 0; i < n; ++i) logits.insert(logits.end(), one_row.begin(), one_row.end());
  const Drawn drawn = draw({.rows = n, .vocabulary = V}, logits, uniforms(n, 4));
  const Doubles p = probabilities(one_row, 0, V, 1);
  Doubles count(static_cast<std::size_t>(V));
  for (const std::int32_t token : drawn.token) ++count[static_cast<std::size_t>(token)];
  double chi_square = 0;
  for (std::size_t v = 0; v < p.size(); ++v) {
    const double expected = p[v] * static_cast<double>(n);
    chi_square += std::pow(count[v] - expected, 2) / expected;
  }
  EXPECT_LT(chi_square, 52.2);
}

// Tokens of no weight at both ends and around block borders; u at its extremes.
TEST(Sampling, NeverDrawsWhatHasNoProbability) {
  const std::int64_t V = 400;
  const float none = -std::numeric_limits<float>::infinity();
  for (const float absent : {none, -1000.0f})
    for (const std::vector<std::int32_t>& present :
         {std::vector<std::int32_t>{200}, {128}, {127, 256}, {5, 6, 130, 390}})
      for (const double u : {0.0, 1e-300, 0.25, 0.5, kAlmostOne})
        for (const float top_p : {1.0f, 0.9f}) {
          Floats logits(static_cast<std::size_t>(V), absent);
          for (const std::int32_t v : present) logits[static_cast<std::size_t>(v)] = 0.5f;
          const Drawn drawn = draw({.rows = 1, .vocabulary = V, .top_p = top_p}, logits, {u});
          EXPECT_THAT(present, ::testing::Contains(drawn.token[0])) << u;
          EXPECT_NEAR(drawn.log_probability[0], -std::log(static_cast<double>(present.size())), 1e-6);
        }
}

TEST(Sampling, ExtremesOfUniformGiveTheEnds) {
  const Floats logits = normal(1031, 5);
  EXPECT_EQ(draw({.rows = 1, .vocabulary = 1031}, logits, {0.0}).token[0], 0);
  EXPECT_EQ(draw({.rows = 1, .vocabulary = 1031}, logits, {kAlmostOne}).token[0], 1030);
}

TEST(Sampling, NucleusIsTheSmallestSetThatReachesTopP) {
  const std::int64_t V = 300;
  for (const float top_p : {0.05f, 0.5f, 0.9f, 0.999f}) {
    const SamplingShape shape{.rows = 211, .vocabulary = V, .temperature = 0.7f, .top_p = top_p};
    const Floats logits = normal(shape.rows * V, 6, 3);
    const Doubles u = uniforms(shape.rows, 7);
    const Drawn drawn = draw(shape, logits, u);
    for (std::int64_t i = 0; i < shape.rows; ++i) {
      const Doubles p = probabilities(logits, i, V, static_cast<double>(shape.temperature));
      const double chosen = p[static_cast<std::size_t>(drawn.token[static_cast<std::size_t>(i)])];
      double likelier = 0;
      for (const double value : p) likelier += value > chosen ? value : 0;
      EXPECT_LT(likelier, static_cast<double>(top_p) + 1e-6);  // without it the set did not reach top_p
      EXPECT_NEAR(drawn.log_probability[static_cast<std::size_t>(i)], std::log(chosen),
                  2e-6 * (1 - std::log(chosen)));
    }
  }
}

// Probabilities 0.4, 0.3, 0.2, 0.1 and top_p 0.6: the nucleus is the first two, renormalised to 4/7 and 3/7.
TEST(Sampling, NucleusIsRenormalised) {
  const Floats logits{std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};
  const SamplingShape shape{.rows = 1, .vocabulary = 4, .top_p = 0.6f};
  EXPECT_EQ(draw(shape, logits, {0.0}).token[0], 1);  // in the order of ids, as without a nucleus
  EXPECT_EQ(draw(shape, logits, {4.0 / 7 - 1e-6}).token[0], 1);
  EXPECT_EQ(draw(shape, logits, {4.0 / 7 + 1e-6}).token[0], 3);
  EXPECT_EQ(draw(shape, logits, {kAlmostOne}).token[0], 3);
}

// Of tokens equally likely at the border, the lowest ids are in.
TEST(Sampling, NucleusBreaksTiesByTheLowestId) {
  const Floats logits(10, 0.0f);
  const SamplingShape shape{.rows = 1, .vocabulary = 10, .top_p = 0.25f};
  EXPECT_EQ(draw(shape, logits, {0.0}).token[0], 0);
  EXPECT_EQ(draw(shape, logits, {0.5}).token[0], 1);
  EXPECT_EQ(draw(shape, logits, {kAlmostOne}).token[0], 2);
}

TEST(Sampling, GreedyTakesTheLowestIdOfTheLargest) {
  const Floats logits{1.0f, 3.0f, 2.0f, 3.0f, /**/ -1.0f, -2.0f, -1.0f, -5.0f};
  const Drawn drawn = draw({.rows = 2, .vocabulary = 4, .greedy = true}, logits, {kAlmostOne, kAlmostOne});
  EXPECT_THAT(drawn.token, ::testing::ElementsAre(1, 0));
  EXPECT_NEAR(drawn.log_probability[0], std::log(probabilities(logits, 0, 4, 1)[1]), 1e-6);
}

TEST(Sampling, RowDoesNotDependOnTheOthersOrOnThreads) {
  const std::int64_t V = 517, rows = 64;
  const Floats logits = normal(rows * V, 8, 2);
  const Doubles u = uniforms(rows, 9);
  for (const float top_p : {1.0f, 0.8f}) {
    Drawn together;
    with_threads(3, [&] { together = draw({.rows = rows, .vocabulary = V, .top_p = top_p}, logits, u); });
    for (std::int64_t i = 0; i < rows; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const Floats row(logits.begin() + i * V, logits.begin() + (i + 1) * V);
      const Drawn alone = draw({.rows = 1, .vocabulary = V, .top_p = top_p}, row, {u[at]});
      EXPECT_EQ(alone.token[0], together.token[at]);
      EXPECT_EQ(alone.log_probability[0], together.log_probability[at]);
    }
  }
}

// A row that is not finite yields some valid id and a log-probability that says so.
TEST(Sampling, NanShowsInTheLogProbability) {
  for (const SamplingShape& shape : {SamplingShape{.rows = 1, .vocabulary = 200},
                                     SamplingShape{.rows = 1, .vocabulary = 200, .top_p = 0.5f},
                                     SamplingShape{.rows = 1, .vocabulary = 200, .greedy = true}})
    for (const bool all : {false, true}) {
      Floats logits = normal(200, 10);
      logits[150] = NAN;
      if (all) logits.assign(200, NAN);
      const Drawn drawn = draw(shape, logits, {0.7});
      EXPECT_GE(drawn.token[0], 0);
      EXPECT_LT(drawn.token[0], 200);
      EXPECT_TRUE(std::isnan(drawn.log_probability[0]));
    }
}

}  // namespace
}  // namespace infalign::kernels
