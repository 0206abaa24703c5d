#include "core/stages/pair_loss.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace infalign::stages {
namespace {

constexpr std::array<float, 6> kRewards = {0.5f, -0.25f, -1.0f, 1.5f, 2.0f, 2.0f};
constexpr std::array<double, 3> kMargins = {0.5, 0, 1.5};

TEST(PairLoss, IsTheClosedForm) {
  const auto sums = PairLoss{kMargins, 0.01}.sums(kRewards);
  const auto log_sigmoid = [](double x) { return -std::log1p(std::exp(-x)); };
  EXPECT_NEAR(sums.loss,
              -log_sigmoid(0.75 - 0.5) - log_sigmoid(-2.5) - log_sigmoid(-1.5) +
                  0.01 * (0.25 * 0.25 + 0.5 * 0.5 + 4.0 * 4.0),
              1e-12);
  EXPECT_EQ(sums.correct, 1.5) << "the margin does not count";
}

TEST(PairLoss, SurvivesRewardsThatAreFarApart) {
  const std::array<float, 2> rewards = {-5000, 5000};
  const std::array<double, 1> margins = {0};
  const PairLoss loss{margins, 0};
  EXPECT_EQ(loss.sums(rewards).loss, 10000);
  EXPECT_EQ(loss.gradient(rewards, 1), (std::vector<float>{-1, 1}));
}

/// Central differences in float64 of a loss whose rewards are float32: steps of 1/64 are exact in both.
TEST(PairLoss, ItsGradientIsItsSlope) {
  const PairLoss loss{kMargins, 0.25};
  const auto gradient = loss.gradient(kRewards, 3);
  for (std::size_t i = 0; i < kRewards.size(); ++i) {
    const auto at = [&](float step) {
      auto rewards = kRewards;
      rewards[i] += step;
      return loss.sums(rewards).loss / 3;
    };
    constexpr float h = 1.0f / 64;
    // Richardson's combination of two steps: the error is of fourth order, below 1e-9 here.
    const double wide = (at(2 * h) - at(-2 * h)) / (4.0 * h), narrow = (at(h) - at(-h)) / (2.0 * h);
    EXPECT_NEAR(gradient[i], (4 * narrow - wide) / 3, 1e-7);
  }
}

}  // namespace
}  // namespace infalign::stages
