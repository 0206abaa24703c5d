#include "core/alignment/opponent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <numeric>

#include "core/alignment/enumeration.h"

namespace infalign::alignment {
namespace {

double wins(float y, float z) { return y > z ? 1 : y == z ? 0.5 : 0; }

/// The chance to beat the opponent's answer from n of the rewards: over all subsets, in every order.
double by_definition(const Procedure& opponent, const std::vector<float>& rewards, float reward) {
  double sum = 0, draws = 0;
  for (unsigned subset = 0; subset < 1u << rewards.size(); ++subset) {
    if (std::popcount(subset) != static_cast<int>(opponent.n)) continue;
    std::vector<std::size_t> drawn;
    for (std::size_t i = 0; i < rewards.size(); ++i)
      if ((subset >> i & 1) != 0) drawn.push_back(i);
    do {
      std::vector<float> candidates;
      for (std::size_t i : drawn) candidates.push_back(rewards[i]);
      const auto probability = opponent.probabilities({candidates});
      for (std::size_t k = 0; k < candidates.size(); ++k) sum += probability[k] * wins(reward, candidates[k]);
      ++draws;
    } while (std::next_permutation(drawn.begin(), drawn.end()));
  }
  return sum / draws;
}

std::vector<float> ascending_with_ties(std::size_t count, unsigned levels, std::mt19937_64& engine) {
  std::vector<float> rewards(count);
  for (float& reward : rewards) reward = static_cast<float>(engine() % levels) - 1;
  std::sort(rewards.begin(), rewards.end());
  return rewards;
}

TEST(OpponentValue, IsTheExpectationOverAllSubsetsOfTheRollouts) {
  std::mt19937_64 engine(1);
  for (std::int64_t n : {1, 2, 3, 4}) {
    for (const Procedure& opponent : small_procedures(n)) {
      if (opponent.reads_answers) continue;
      for (const std::size_t rollouts : {static_cast<std::size_t>(n), std::size_t{6}}) {
        for (unsigned levels : {2u, 4u, 50u}) {
          const auto table = ascending_with_ties(rollouts, levels, engine);
          std::vector<float> asked{-2, -1, 0, 0.5f, 1, 2, 1e6f};
          asked.insert(asked.end(), table.begin(), table.end());
          const auto values = OpponentValue(opponent, static_cast<std::int64_t>(rollouts))(table, asked);
          ASSERT_EQ(values.size(), asked.size());
          for (std::size_t i = 0; i < asked.size(); ++i) {
            EXPECT_NEAR(values[i], by_definition(opponent, table, asked[i]), 1e-13)
                << describe(opponent) << ", " << rollouts << " rollouts, " << asked[i];
          }
        }
      }
    }
  }
}

TEST(OpponentValue, HasNoBiasAtAnyNumberOfRollouts) {
  // Over all tables of K rollouts of a small reference policy, each weighted by its probability: exactly the
  // chance to beat the answer that the opponent draws from the policy itself.
  std::mt19937_64 engine(2);
  for (std::int64_t n : {1, 2, 3}) {
    for (const Procedure& opponent : small_procedures(n)) {
      if (opponent.reads_answers) continue;
      SmallPolicy reference = random_policy(3, engine);
      reference.judging = reference.selecting;
      const auto exact = chances_to_win(reference, opponent, reference);
      for (std::int64_t rollouts = n; rollouts <= 5; ++rollouts) {
        const OpponentValue value(opponent, rollouts);
        std::vector<double> mean(reference.size());
        for_each_tuple(reference, static_cast<std::size_t>(rollouts), [&](const Tuple& tuple) {
          auto table = tuple.selecting;
          std::sort(table.begin(), table.end());
          const auto values = value(table, reference.selecting);
          for (std::size_t y = 0; y < mean.size(); ++y) mean[y] += tuple.probability * values[y];
        });
        for (std::size_t y = 0; y < mean.size(); ++y)
          EXPECT_NEAR(mean[y], exact[y], 1e-12) << describe(opponent) << ", " << rollouts << " rollouts";
      }
    }
  }
}

TEST(OpponentValue, OfTheStandardOpponentIsTheCalibratedReward) {
  const OpponentValue value(make_procedure("standard", 1), 4);
  EXPECT_EQ(value(std::vector<float>{0, 1, 1, 3}, std::vector<float>{-1, 0, 1, 2, 3, 4}),
            (std::vector<double>{0, 0.125, 0.5, 0.75, 0.875, 1}));
}

TEST(OpponentValue, RefusesWhatRewardsCannotTell) {
  EXPECT_THAT([] { OpponentValue(make_procedure("majority_vote", 2), 8); },
              testing::ThrowsMessage<std::invalid_argument>(testing::HasSubstr("majority_vote")));
  for (const char* name : {"best_of_n", "median_of_n", "retry_until"})
    EXPECT_THROW(OpponentValue(make_procedure(name, 4), 3), std::invalid_argument) << name;
  const OpponentValue value(make_procedure("best_of_n", 2), 3);
  EXPECT_THROW(value(std::vector<float>{0, 1}, std::vector<float>{0}), std::invalid_argument);
  EXPECT_THROW(value(std::vector<float>{0, 1, 2}, std::vector<float>{std::nanf("")}), std::domain_error);
}

}  // namespace
}  // namespace infalign::alignment
