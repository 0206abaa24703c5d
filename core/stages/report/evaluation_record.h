// evaluation.json as typed values. The report and the table on the terminal both read it through this one
// door, so that a missing number is missing in the same way everywhere: NaN here, a dash on the page.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "core/json/forward.h"

namespace infalign::stages {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

/// A mean over held-out prompts with its 95 % interval.
struct Estimate {
  double value = kMissing, low = kMissing, high = kMissing;

  bool known() const;
  bool above_zero() const { return low > 0; }
  bool below_zero() const { return high < 0; }
};

struct Difference {
  Estimate inference_win_rate, standard_win_rate;
};

struct VariantRecord {
  std::string name, transform;
  double beta = kMissing, target_kl = kMissing;
  std::int64_t steps = 0;
  Estimate kl, kl_k3, standard_win_rate, inference_win_rate, reward, reference_reward, response_length;
  // Decided by the reward trained on, where a judge decides the others:
  Estimate win_rate_by_reward, to_previous_by_reward;
  Estimate inference_reward, reference_inference_reward;  // of the answers that the procedure gives
  struct {
    double standard_win_rate = kMissing, inference_win_rate = kMissing;
  } predicted;  // closed form at the measured KL; missing for transforms without one (raw, zscore)
  Difference to_first, to_previous;
};

/// The closed-form optimum of one transform as beta moves.
struct CurvePoint {
  double kl = kMissing, standard_win_rate = kMissing, inference_win_rate = kMissing;
};
struct Curve {
  std::string transform;
  std::vector<CurvePoint> points;
};

struct CalibrationRecord {
  std::string mode;
  std::int64_t rollouts = 0;  // K
  double uniformity_distance = kMissing;
  std::vector<double> heldout_ranks;  // C of fresh reference samples on held-out prompts
};

struct Answer {
  std::string variant, text;
  double reward = kMissing;
};
struct Example {
  std::string prompt;
  Answer reference;
  std::vector<Answer> answers;
};

struct EvaluationRecord {
  std::string procedure = "standard";
  std::string deployment;      // of both sides, such as "best_of_n 8 against standard"; "" in older files
  bool values_reward = false;  // answers are worth their own reward, rather than a win
  std::int64_t n = 1, prompts = 0, samples_per_prompt = 0;
  bool independent_judge = false;
  Estimate
      judge_agreement;  // mean rank correlation of reward and judge on the reference's answers to a prompt
  std::vector<VariantRecord> variants;
  CalibrationRecord calibration;
  std::vector<Curve> curves;
  std::vector<Example> examples;
  double seconds = kMissing;

  /// "Best-of-4", "Worst-of-4", "ordinary sampling", or else the deployment's own name.
  std::string procedure_name() const;
  /// False when the procedure is ordinary sampling, whose win rate is the standard one.
  bool has_procedure() const {
    return deployment.empty() ? procedure != "standard" : deployment != "standard";
  }
};

/// Errors: InputError for another format version or a value of the wrong type; absent keys stay missing.
EvaluationRecord parse_evaluation(const Json& evaluation);

}  // namespace infalign::stages
