#include "core/stages/data_policy.h"

#include <gmock/gmock.h>

namespace infalign::stages {
namespace {

using Ids = std::vector<std::int32_t>;

TEST(DataPolicy, TruncationKeepsTheEndAndTheBeginningMark) {
  Ids ids = {7, 1, 2, 3};
  EXPECT_FALSE(truncate_left(ids, 4));
  EXPECT_TRUE(truncate_left(ids, 3, 7));
  EXPECT_EQ(ids, (Ids{7, 2, 3}));
  EXPECT_TRUE(truncate_left(ids, 2, 9));
  EXPECT_EQ(ids, (Ids{2, 3}));
  EXPECT_TRUE(truncate_left(ids, 1, 2));
  EXPECT_EQ(ids, (Ids{3}));
}

TEST(DataPolicy, WhatIsHeldOutStaysSoWhenTheShareGrows) {
  for (int i = 0; i < 1000; ++i) {
    const auto prompt = "prompt " + std::to_string(i);
    EXPECT_LE(is_held_out(prompt, 0.1), is_held_out(prompt, 0.4));
    EXPECT_FALSE(is_held_out(prompt, 0));
  }
}

/// The chance that one of the shares is off by 4 standard deviations is below 2e-4; the seed is fixed.
TEST(DataPolicy, TheSplitsAreUniformAndIndependent) {
  constexpr int kTexts = 4000;
  int upper_left = 0, left = 0, upper = 0;
  for (int i = 0; i < kTexts; ++i) {
    const auto prompt = "prompt " + std::to_string(i);
    const bool is_left = split_position(prompt, 0) < 0.5, is_upper = split_position(prompt, 1) < 0.5;
    left += is_left, upper += is_upper, upper_left += is_left && is_upper;
  }
  EXPECT_NEAR(left, kTexts / 2.0, 127);
  EXPECT_NEAR(upper, kTexts / 2.0, 127);
  EXPECT_NEAR(upper_left, kTexts / 4.0, 110);
}

TEST(DataPolicy, CountsInWords) {
  EXPECT_EQ(counted(1, "pair"), "1 pair");
  EXPECT_EQ(counted(0, "pair"), "0 pairs");
}

}  // namespace
}  // namespace infalign::stages
