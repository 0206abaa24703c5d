#include "core/stages/result_table.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <sstream>

namespace infalign::stages {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

VariantRecord variant(const std::string& name, double win_rate, double kl) {
  VariantRecord record;
  record.name = name;
  record.inference_win_rate = {win_rate, win_rate - 0.01, win_rate + 0.01};
  record.kl = {kl, kl - 0.02, kl + 0.02};
  return record;
}

EvaluationRecord pair_with_difference(const Estimate& difference, double second_kl = 0.5) {
  EvaluationRecord evaluation;
  evaluation.procedure = "best_of_n";
  evaluation.n = 4;
  evaluation.variants = {variant("calibrated", 0.73, 0.5),
                         variant("infalign", 0.73 + difference.value, second_kl)};
  evaluation.variants[1].to_previous.inference_win_rate = difference;
  return evaluation;
}

TEST(Conclusion, IntervalAboveZeroIsAWin) {
  EXPECT_THAT(
      conclusion(pair_with_difference({0.021, 0.012, 0.030})),
      StartsWith("Under Best-of-4, infalign beats calibrated by 0.021 [0.012, 0.030] (paired 95 % interval"));
}

TEST(Conclusion, IntervalAcrossZeroClaimsNothing) {
  const std::string words = conclusion(pair_with_difference({0.004, -0.006, 0.014}));
  EXPECT_THAT(words,
              HasSubstr("infalign and calibrated cannot be told apart (difference +0.004 [-0.006, +0.014])"));
  EXPECT_THAT(words, Not(HasSubstr("beats")));
}

TEST(Conclusion, IntervalBelowZeroIsALossOfPositiveSize) {
  EXPECT_THAT(conclusion(pair_with_difference({-0.02, -0.03, -0.01})),
              HasSubstr("infalign falls behind calibrated by 0.020 [0.010, 0.030]"));
}

TEST(Conclusion, UnequalKlIsPointedOut) {
  EXPECT_THAT(conclusion(pair_with_difference({0.02, 0.01, 0.03}, 0.54)),
              HasSubstr("All stand at the same KL (0.50 to 0.54"));
  EXPECT_THAT(conclusion(pair_with_difference({0.02, 0.01, 0.03}, 0.60)),
              HasSubstr("Their KL differs (0.50 to 0.60 nats)"));
}

TEST(Conclusion, ThreeVariantsAreAChain) {
  EvaluationRecord evaluation = pair_with_difference({0.02, 0.01, 0.03});
  evaluation.variants.push_back(variant("third", 0.7, 0.5));
  evaluation.variants[2].to_previous.inference_win_rate = {0, -0.01, 0.01};
  EXPECT_THAT(conclusion(evaluation),
              HasSubstr("third and infalign cannot be told apart (difference +0.000 [-0.010, +0.010]) and "
                        "infalign beats calibrated by 0.020"));
}

TEST(Conclusion, AJudgeStandsBesideTheReward) {
  EvaluationRecord evaluation = pair_with_difference({0.004, -0.006, 0.014});
  evaluation.variants[1].to_previous_by_reward = {0.021, 0.012, 0.030};
  evaluation.judge_agreement = {0.41, 0.39, 0.43};
  const std::string words = conclusion(evaluation);
  EXPECT_THAT(words, HasSubstr("cannot be told apart"));
  EXPECT_THAT(words, HasSubstr("By the reward they were trained on, infalign beats calibrated by 0.021"));
  EXPECT_THAT(words, HasSubstr("alike by 0.41 [0.39, 0.43]"));
}

TEST(Conclusion, OneVariantIsMeasuredAgainstOneHalf) {
  EvaluationRecord evaluation = pair_with_difference({});
  evaluation.variants.resize(1);
  EXPECT_THAT(conclusion(evaluation), HasSubstr("0.730 [0.720, 0.740]"));
  EXPECT_THAT(conclusion(evaluation), HasSubstr(": better than the reference policy."));
  evaluation.variants[0].inference_win_rate = {0.5, 0.49, 0.51};
  EXPECT_THAT(conclusion(evaluation), HasSubstr("not to be told apart"));
}

nlohmann::json json_of(double value) {
  return {{"value", value}, {"low", value - 0.01}, {"high", value + 0.01}};
}

nlohmann::json two_variants(const std::string& procedure) {
  nlohmann::json evaluation = {
      {"format_version", 1}, {"procedure", procedure}, {"n", 4}, {"prompts", 64}, {"samples_per_prompt", 16}};
  for (const char* name : {"raw", "a_longer_name"}) {
    evaluation["variants"].push_back({{"name", name},
                                      {"transform", "identity"},
                                      {"kl", json_of(0.5)},
                                      {"inference_win_rate", json_of(0.75)},
                                      {"standard_win_rate", json_of(0.66)},
                                      {"predicted", {{"inference_win_rate", 0.8}}}});
  }
  return evaluation;
}

TEST(ResultTable, ColumnsLineUp) {
  std::istringstream lines(result_table(two_variants("best_of_n")));
  std::vector<std::string> rows;
  for (std::string line; std::getline(lines, line);) rows.push_back(line);
  const auto column = rows[2].find("Best-of-4 win rate");
  ASSERT_NE(column, std::string::npos);
  EXPECT_EQ(rows[3].find("0.750 [0.740, 0.760]"), column);
  EXPECT_EQ(rows[4].find("0.750 [0.740, 0.760]"), column);
  EXPECT_THAT(rows[4], StartsWith("a_longer_name  identity   0.750"));
}

TEST(ResultTable, OrdinarySamplingHasOneWinRate) {
  EXPECT_THAT(result_table(two_variants("standard")), Not(HasSubstr("closed form")));
  EXPECT_THAT(result_table(two_variants("worst_of_n")), HasSubstr("Worst-of-4 win rate"));
}

TEST(ResultTable, MissingNumbersAreDashes) {
  nlohmann::json evaluation = two_variants("best_of_n");
  evaluation["variants"][0].erase("predicted");
  evaluation["variants"][0]["kl"] = nullptr;
  EXPECT_THAT(result_table(evaluation),
              HasSubstr("0.750 [0.740, 0.760]  -            0.660 [0.650, 0.670]  -"));
}

}  // namespace
}  // namespace infalign::stages
