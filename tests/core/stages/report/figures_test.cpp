#include "core/stages/report/figures.h"

#include <gmock/gmock.h>

#include <numeric>

namespace infalign::stages {
namespace {

TEST(CalibrationDensity, EveryRankOnceIsFlatWhateverKIs) {
  for (const std::int64_t rollouts : {4, 20, 64, 100}) {
    CalibrationRecord calibration{"prompt", rollouts, 0, {}};
    for (std::int64_t below = 0; below <= rollouts; ++below) {
      calibration.heldout_ranks.push_back(static_cast<double>(below) / static_cast<double>(rollouts));
    }
    for (const double density : calibration_density(calibration, 20))
      EXPECT_NEAR(density, 1, 1e-9) << rollouts;
  }
}

TEST(CalibrationDensity, IntegratesToOneAndShowsWhereSamplesAre) {
  const CalibrationRecord low{"prompt", 64, 0, {0, 0.02, 0.05, 1}};
  const auto density = calibration_density(low, 10);
  EXPECT_NEAR(std::accumulate(density.begin(), density.end(), 0.0) / 10, 1, 1e-9);
  EXPECT_NEAR(density.front(), 7.5, 1e-9);
  EXPECT_NEAR(density.back(), 2.5, 1e-9);
}

TEST(CalibrationDensity, ContinuousRanksFallIntoTheirBin) {
  const CalibrationRecord global{"global", 64, 0, {0.05, 0.95, 1.0}};
  EXPECT_THAT(calibration_density(global, 2),
              testing::ElementsAre(testing::DoubleNear(2.0 / 3, 1e-9), testing::DoubleNear(4.0 / 3, 1e-9)));
}

TEST(WinRateFigure, CurvesEndAtTheBorderOfThePicture) {
  EvaluationRecord evaluation;
  evaluation.curves = {{"identity", {{0, 0.5, 0.5}, {0.4, 0.6, 0.7}, {1.6, 0.8, 0.9}}}};
  const Figure figure = win_rate_figure(evaluation, Measure::kInferenceWinRate);  // shows KL up to 0.8
  EXPECT_EQ(figure.numbers.rows.back()[1], "0.800");
  EXPECT_EQ(figure.numbers.rows.back()[2], "0.767");  // 0.7 + (0.9 - 0.7) / 3
}

}  // namespace
}  // namespace infalign::stages
