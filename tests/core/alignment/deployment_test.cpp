#include "core/alignment/deployment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace infalign::alignment {
namespace {

const Procedure kStandard = make_procedure("standard", 1);
const Procedure kBest4 = make_procedure("best_of_n", 4);
const Procedure kVote8 = make_procedure("majority_vote", 8);

TEST(Deployment, OfOneProcedureHasItOnBothSides) {
  const Deployment deployment = kBest4;
  ASSERT_EQ(deployment.matchups().size(), 1u);
  EXPECT_EQ(deployment.matchups()[0].share, 1);
  EXPECT_EQ(deployment.matchups()[0].policy.name, "best_of_n");
  EXPECT_EQ(deployment.matchups()[0].opponent.name, "best_of_n");
  EXPECT_EQ(deployment.policy_candidates(), 4);
  EXPECT_EQ(deployment.candidates(), 4);
  EXPECT_EQ(deployment.name(), "best_of_n 4");
}

TEST(Deployment, OfAPairHasTwoSides) {
  const Deployment deployment(kBest4, kVote8);
  EXPECT_EQ(deployment.policy_candidates(), 4);
  EXPECT_EQ(deployment.candidates(), 8);
  EXPECT_EQ(deployment.name(), "best_of_n 4 against majority_vote 8");
}

TEST(Deployment, OfAMixtureNormalisesItsShares) {
  const Deployment deployment({{1, kStandard, kStandard}, {3, kBest4, kStandard}});
  EXPECT_EQ(deployment.matchups()[0].share, 0.25);
  EXPECT_EQ(deployment.matchups()[1].share, 0.75);
  EXPECT_EQ(deployment.candidates(), 4);
  EXPECT_EQ(deployment.name(), "0.25 standard + 0.75 best_of_n 4 against standard");
}

TEST(Deployment, IsCalibratedIfEverySideIs) {
  EXPECT_TRUE(Deployment(kBest4).is_calibrated());
  EXPECT_TRUE(Deployment(kBest4, kStandard).is_calibrated());
  EXPECT_FALSE(Deployment(kBest4, kVote8).is_calibrated());
  EXPECT_FALSE(Deployment(kVote8, kBest4).is_calibrated());
  EXPECT_FALSE(Deployment({{1, kBest4, kBest4}, {1, kVote8, kBest4}}).is_calibrated());
}

TEST(Deployment, RefusesSharesThatAreNone) {
  EXPECT_THROW(Deployment(std::vector<Matchup>{}), std::invalid_argument);
  for (double share :
       {0.0, -1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THAT(
        [&] {
          Deployment({{1, kStandard, kStandard}, {share, kBest4, kBest4}});
        },
        testing::ThrowsMessage<std::invalid_argument>(testing::HasSubstr("best_of_n 4")));
  }
}

}  // namespace
}  // namespace infalign::alignment
