#include "core/stages/transformed_reward.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/alignment/theory.h"
#include "core/experiment/deployment.h"

namespace infalign::stages {
namespace {

using alignment::make_procedure;

constexpr std::int64_t kRollouts = 8, kSamples = 6;

/// Two prompts on scales of their own, and six samples of the second.
class TransformedRewards : public testing::Test {
 protected:
  std::vector<double> apply(TransformedReward& transformed) const {
    return transformed({calibration_, 1, reward_, selecting_, answer_, 7}, calibrated_);
  }
  std::vector<double> apply(const alignment::Deployment& deployment, const experiment::Variant& variant,
                            double beta = 0.5) const {
    TransformedReward transformed(deployment, variant, kRollouts, kSamples);
    transformed.set_beta(beta);
    return apply(transformed);
  }
  /// By hand: leave-one-out rewards of the matchup, made fit for the mean of the others as baseline.
  std::vector<double> left_out(const alignment::Matchup& matchup, const std::vector<double>& value) const {
    auto rewards = alignment::LeaveOneOut(matchup.policy, kSamples).rewards({selecting_, answer_}, value, 7);
    alignment::unbias_for_leave_one_out_baseline(matchup.policy.n, rewards);
    return rewards;
  }
  std::vector<double> wins_against(const alignment::Procedure& opponent) const {
    return alignment::OpponentValue(opponent, kRollouts)(calibration_.rewards(1), reward_);
  }

  const alignment::Calibration calibration_{alignment::CalibrationMode::kPrompt,
                                            {0, 1, 2, 3, 4, 5, 6, 7, -10, -10, 5, 5, 10, 20, 20, 30},
                                            kRollouts,
                                            alignment::RewardSketch()};
  const std::vector<float> reward_{5, -20, 20, 12, 12, 31};
  const std::vector<float> selecting_{0.1f, 0.9f, 0.5f, 0.5f, 0.4f, 0.2f};  // a reranker's other opinion
  const std::vector<std::int64_t> answer_{1, 2, 2, 1, 3, 2};
  const std::vector<double> calibrated_ = [&] {
    std::vector<double> calibrated;
    for (float reward : reward_) calibrated.push_back(calibration_(1, reward));
    return calibrated;
  }();
};

experiment::Variant variant_of(const std::string& transform) {
  experiment::Variant variant;
  variant.transform = transform;
  variant.exponent = 3;
  variant.cut = 0.25;
  variant.points = {0, 0, 0.5, 0.1, 1, 1};
  return variant;
}

TEST_F(TransformedRewards, OfCalibratedKindsAreTheTransformOfC) {
  const alignment::Deployment deployment = make_procedure("best_of_n", 4);
  int kinds = 0;
  for (const std::string& name : alignment::transform_names()) {
    if (!alignment::is_calibrated(alignment::transform_kind(name))) continue;
    ++kinds;
    for (const bool debiased : {false, true}) {
      auto variant = variant_of(name);
      variant.debiased = debiased && name == "exponential";
      const auto transform =
          alignment::make_transform(transform_settings(variant, kRollouts), deployment, 0.5);
      const auto rewards = apply(deployment, variant);
      for (std::size_t i = 0; i < rewards.size(); ++i)
        EXPECT_EQ(rewards[i], transform(calibrated_[i])) << name << " of sample " << i;
    }
  }
  EXPECT_EQ(kinds, 9);
}

TEST_F(TransformedRewards, RawAndZScoreSeeTheRewardItself) {
  const alignment::Deployment deployment = make_procedure("best_of_n", 4);
  const auto raw = apply(deployment, variant_of("raw")), z = apply(deployment, variant_of("zscore"));
  for (std::size_t i = 0; i < reward_.size(); ++i) {
    EXPECT_EQ(raw[i], reward_[i]);
    EXPECT_DOUBLE_EQ(z[i], (reward_[i] - calibration_.mean(1)) / calibration_.deviation(1));
  }
}

TEST_F(TransformedRewards, LeaveOneOutWeighsWinsAgainstTheOpponent) {
  const auto best = make_procedure("best_of_n", 4), standard = make_procedure("standard", 1);
  EXPECT_EQ(apply(best, variant_of("leave_one_out")), left_out({1, best, best}, wins_against(best)));
  EXPECT_EQ(apply({best, standard}, variant_of("leave_one_out")),
            left_out({1, best, standard}, wins_against(standard)));
  const auto vote = make_procedure("majority_vote", 3);
  EXPECT_EQ(apply({vote, standard}, variant_of("leave_one_out")),
            left_out({1, vote, standard}, wins_against(standard)));
}

TEST_F(TransformedRewards, LeaveOneOutOfAMixtureIsTheWeightedSum) {
  const auto best = make_procedure("best_of_n", 4), standard = make_procedure("standard", 1);
  const auto worst = make_procedure("worst_of_n", 2);
  const alignment::Deployment mixture({{0.5, standard, standard}, {0.3, best, best}, {0.2, worst, best}});
  const auto rewards = apply(mixture, variant_of("leave_one_out"));
  std::vector<double> expected(rewards.size());
  for (const auto& matchup : mixture.matchups()) {
    const auto part = left_out(matchup, wins_against(matchup.opponent));
    for (std::size_t i = 0; i < part.size(); ++i) expected[i] += matchup.share * part[i];
  }
  for (std::size_t i = 0; i < rewards.size(); ++i) EXPECT_NEAR(rewards[i], expected[i], 1e-14);
}

TEST_F(TransformedRewards, LeaveOneOutOfAValueIsOfTheRewardItself) {
  experiment::Inference inference;
  inference.procedure = "majority_vote";
  inference.n = 3;
  inference.value = "reward";  // the opponent, who would vote as well, is not asked
  const std::vector<double> value(reward_.begin(), reward_.end());
  const auto deployment = experiment::deployment(inference);
  EXPECT_EQ(apply(deployment, variant_of("leave_one_out")), left_out(deployment.matchups().front(), value));
}

TEST_F(TransformedRewards, AreSolvedAnewOnlyForTheTransformThatNeedsIt) {
  const alignment::Deployment deployment = make_procedure("best_of_n", 4);
  // The optimal transform moves with beta, and comes back to the very same numbers.
  TransformedReward optimal(deployment, variant_of("optimal"), kRollouts, kSamples);
  optimal.set_beta(0.5);
  const auto at_half = apply(optimal);
  optimal.set_beta(0.1);
  EXPECT_NE(apply(optimal), at_half);
  EXPECT_EQ(apply(optimal), apply(deployment, variant_of("optimal"), 0.1));
  optimal.set_beta(0.5);
  EXPECT_EQ(apply(optimal), at_half);
  EXPECT_ANY_THROW(optimal.set_beta(-1));
  // The others do not, and are not solved for a beta at which there is no solution.
  for (const char* name : {"identity", "exponential", "raw", "leave_one_out"}) {
    TransformedReward fixed(deployment, variant_of(name), kRollouts, kSamples);
    fixed.set_beta(0.5);
    const auto before = apply(fixed);
    EXPECT_NO_THROW(fixed.set_beta(-1)) << name;
    EXPECT_EQ(apply(fixed), before) << name;
  }
}

TEST_F(TransformedRewards, BetaStartsWhereTheorySays) {
  const alignment::Deployment deployment = make_procedure("best_of_n", 4);
  const auto start = [&](const std::string& name, std::optional<double> beta) {
    auto variant = variant_of(name);
    variant.beta = beta;
    variant.target_kl = 0.5;
    return TransformedReward(deployment, variant, kRollouts, kSamples).initial_beta(calibration_);
  };
  EXPECT_EQ(start("optimal", 0.25), 0.25);
  EXPECT_NEAR(start("optimal", std::nullopt), alignment::predict_optimal_at_kl(deployment, 0.5).beta, 1e-4);
  EXPECT_EQ(start("leave_one_out", std::nullopt), start("optimal", std::nullopt));
  // For a normal reward of deviation s the KL of the optimum is (s/beta)^2/2.
  EXPECT_NEAR(start("zscore", std::nullopt), 1, 1e-12);
  EXPECT_NEAR(start("raw", std::nullopt), (calibration_.deviation(0) + calibration_.deviation(1)) / 2, 1e-9);
}

TEST_F(TransformedRewards, RefuseTooFewSamplesOrRollouts) {
  const alignment::Deployment best7 = make_procedure("best_of_n", 7), best9 = make_procedure("best_of_n", 9);
  const auto variant = variant_of("leave_one_out");
  EXPECT_THROW(TransformedReward(best7, variant, kRollouts, kSamples), std::invalid_argument);
  EXPECT_THROW(TransformedReward(best9, variant, kRollouts, 10), std::invalid_argument);
}

}  // namespace
}  // namespace infalign::stages
