// Several sources of rewards as one.
#include "core/stages/reward_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace infalign::stages {
namespace {

using testing::ElementsAre;

/// Rewards that are given; wants texts if told so.
class Given final : public RewardSource {
 public:
  explicit Given(std::vector<float> rewards, bool reads_text = false)
      : rewards_(std::move(rewards)), reads_text_(reads_text) {}
  std::vector<float> score(const kernels::Stream&, std::span<const std::int32_t>, const std::string&,
                           std::span<const std::vector<std::int32_t>>,
                           const std::vector<std::string>&) override {
    return rewards_;
  }
  bool reads_text() const override { return reads_text_; }
  std::string fingerprint() const override { return std::to_string(rewards_.front()); }

 private:
  std::vector<float> rewards_;
  bool reads_text_;
};

RewardEnsemble ensemble(Combination combination, double kappa, bool last_reads_text = false) {
  std::vector<std::unique_ptr<RewardSource>> sources;
  sources.push_back(std::make_unique<Given>(std::vector<float>{1, -2}));
  sources.push_back(std::make_unique<Given>(std::vector<float>{2, -2}));
  sources.push_back(std::make_unique<Given>(std::vector<float>{6, -2}, last_reads_text));
  return {std::move(sources), combination, kappa};
}

std::vector<float> scores(RewardEnsemble source) {
  return source.score({}, {}, "", std::vector<std::vector<std::int32_t>>(2), {});
}

TEST(RewardEnsemble, CombinesResponseByResponse) {
  EXPECT_THAT(scores(ensemble(Combination::kMean, 1)), ElementsAre(3, -2));
  EXPECT_THAT(scores(ensemble(Combination::kMinimum, 1)), ElementsAre(1, -2));
  // Distances to the mean 3: 2, 1, 3; their squares' mean 14/3.
  const auto bound = static_cast<float>(3 - 0.5 * std::sqrt(14.0 / 3));
  EXPECT_THAT(scores(ensemble(Combination::kLowerBound, 0.5)), ElementsAre(bound, -2));
  EXPECT_THAT(scores(ensemble(Combination::kLowerBound, 0)), ElementsAre(3, -2));
}

TEST(RewardEnsemble, DoesNotHideWhatIsNotFinite) {
  const std::vector<float> rewards = {1, std::nanf(""), 2};
  EXPECT_TRUE(std::isnan(combined(rewards, Combination::kMean, 1)));
  EXPECT_TRUE(std::isnan(combined(rewards, Combination::kMinimum, 1)));
  EXPECT_TRUE(std::isnan(combined(rewards, Combination::kLowerBound, 1)));
}

TEST(RewardEnsemble, AsksForTextsIfOneOfItDoes) {
  EXPECT_FALSE(ensemble(Combination::kMean, 1).reads_text());
  EXPECT_TRUE(ensemble(Combination::kMean, 1, true).reads_text());
}

TEST(RewardEnsemble, ItsFingerprintCoversAllThatDecides) {
  const auto mean = ensemble(Combination::kMean, 1).fingerprint();
  EXPECT_EQ(mean, ensemble(Combination::kMean, 2).fingerprint()) << "kappa plays no part in a mean";
  EXPECT_NE(mean, ensemble(Combination::kMinimum, 1).fingerprint());
  EXPECT_NE(ensemble(Combination::kLowerBound, 1).fingerprint(),
            ensemble(Combination::kLowerBound, 1 + 1e-12).fingerprint());
  std::vector<std::unique_ptr<RewardSource>> others;
  others.push_back(std::make_unique<Given>(std::vector<float>{1}));
  others.push_back(std::make_unique<Given>(std::vector<float>{2}));
  others.push_back(std::make_unique<Given>(std::vector<float>{7}));
  EXPECT_NE(mean, RewardEnsemble(std::move(others), Combination::kMean, 1).fingerprint());
}

TEST(MakeRewardSource, IsNullWhereNothingIsSaid) {
  EXPECT_EQ(make_reward_source("model.judge", {}, ""), nullptr);
}

}  // namespace
}  // namespace infalign::stages
