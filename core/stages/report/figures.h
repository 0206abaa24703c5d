// The report's pictures as gnuplot scripts, each with the numbers it shows: what to draw is decided here, how
// it is drawn in gnuplot.h.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/stages/report/html.h"
#include "core/stages/report/run_folder.h"

namespace infalign::stages {

struct Figure {
  std::string id;           // unique on the page
  std::string title;        // HTML
  std::string description;  // for readers who cannot see it; plain text
  std::string script;       // gnuplot
  DataTable numbers;        // the same as a table
};

enum class Measure { kInferenceWinRate, kStandardWinRate };

/// The paper's figure: win rate against KL, a line for the closed-form optimum of each transform, a point
/// with its 95 % intervals for each variant. A curve has the colour of the variant that was trained with its
/// transform.
Figure win_rate_figure(const EvaluationRecord& evaluation, Measure measure);

/// The same from theory alone, up to `last_kl`: a line in its own colour for each transform. `what` names the
/// win rate.
Figure closed_form_figure(const std::string& id, const std::string& what, const std::vector<Curve>& curves,
                          Measure measure, double last_kl);

/// Histogram of the calibrated rewards of fresh reference samples, as a density: flat at 1 if the calibration
/// is right. With K rollouts a rank is one of K + 1 values; each is spread over its own share of [0, 1], or
/// the bins would catch unequal numbers of them.
Figure calibration_figure(const CalibrationRecord& calibration);
std::vector<double> calibration_density(const CalibrationRecord& calibration, std::size_t bins);

/// One measured quantity over the steps of training, a line for each series: the steps themselves faint,
/// their moving average strong.
struct TrainingSeries {
  std::string name;
  std::size_t colour = 0;
  std::vector<std::pair<double, double>> points;  // step, value
};
Figure training_figure(const std::string& id, const std::string& title,
                       const std::vector<TrainingSeries>& series,
                       std::optional<double> target = std::nullopt);

}  // namespace infalign::stages
