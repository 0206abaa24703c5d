#include "core/alignment/procedures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace infalign::alignment {
namespace {

using testing::HasSubstr;

TEST(Procedures, AreFoundByName) {
  for (const std::string& name : procedure_names()) {
    const Procedure procedure = make_procedure(name, 4);
    EXPECT_EQ(procedure.name, name);
    EXPECT_EQ(procedure.n, name == "standard" ? 1 : 4);
  }
  EXPECT_THAT([] { make_procedure("best-of-n", 4); },
              testing::ThrowsMessage<std::invalid_argument>(
                  testing::AllOf(HasSubstr("best-of-n"), HasSubstr("standard, best_of_n, worst_of_n"))));
  EXPECT_THROW(make_procedure("best_of_n", 0), std::invalid_argument);
}

TEST(Procedures, DensityIsTheDerivativeOfTheCumulative) {
  for (const std::string& name : procedure_names()) {
    for (std::int64_t n : {1, 2, 3, 4, 16, 65}) {
      const Procedure procedure = make_procedure(name, n);
      EXPECT_EQ(procedure.cumulative(0), 0);
      EXPECT_EQ(procedure.cumulative(1), 1);
      for (double q = 0.05; q < 1; q += 0.05) {
        constexpr double kStep = 1e-5;
        const double slope =
            (procedure.cumulative(q + kStep) - procedure.cumulative(q - kStep)) / (2 * kStep);
        EXPECT_NEAR(procedure.density(q), slope, 1e-6 * (1 + slope)) << name << " " << n << " " << q;
      }
    }
  }
}

TEST(Procedures, SelectTheFirstAtATie) {
  const std::vector<float> rewards{2, 5, -1, 5, -1};
  EXPECT_EQ(make_procedure("standard", 5).select(rewards), 0u);
  EXPECT_EQ(make_procedure("best_of_n", 5).select(rewards), 1u);
  EXPECT_EQ(make_procedure("worst_of_n", 5).select(rewards), 2u);
}

TEST(Procedures, RefuseNoCandidatesAndNaN) {
  for (const std::string& name : procedure_names()) {
    const Procedure procedure = make_procedure(name, 2);
    EXPECT_THROW(procedure.select({}), std::invalid_argument);
    EXPECT_THROW(procedure.select(std::vector<float>{1, std::nanf("")}), std::domain_error);
  }
}

TEST(Procedures, SelectionFollowsTheCumulative) {
  // Rank of the chosen of n uniform candidates: P(rank <= 0.4) = H(0.4). 20,000 draws have a standard error
  // of at most 0.0035; five of them make a false alarm less likely than 1e-6 for each.
  std::mt19937_64 engine(6);
  std::uniform_real_distribution<float> uniform;
  for (const std::string& name : procedure_names()) {
    const Procedure procedure = make_procedure(name, 3);
    int below = 0;
    for (int draw = 0; draw < 20'000; ++draw) {
      std::vector<float> rewards(static_cast<std::size_t>(procedure.n));
      for (float& reward : rewards) reward = uniform(engine);
      below += rewards[procedure.select(rewards)] <= 0.4f;
    }
    EXPECT_NEAR(below / 20'000.0, procedure.cumulative(0.4), 0.018) << name;
  }
}

}  // namespace
}  // namespace infalign::alignment
