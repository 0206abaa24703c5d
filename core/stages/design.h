// `infalign design`: what a run can reach, before a GPU is spent. From how answers will be drawn and how far
// the policy may go, the win rates of each transform's optimum, the paper's figure from theory, the best
// exponential, and the rollouts that calibration needs. No model; milliseconds.
#pragma once

#include <filesystem>
#include <iosfwd>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/alignment/best_exponential.h"
#include "core/alignment/rollouts.h"
#include "core/alignment/theory.h"
#include "core/experiment/experiment.h"
#include "core/stages/design_specs.h"

namespace infalign::stages {

/// The command line as it was typed; "" and nothing where it was not.
struct DesignOptions {
  std::string procedure;
  std::map<std::string, std::string> keys;  // n, k, strength, ... of the procedure
  std::string opponent, mix, transforms, measure;
  std::optional<double> beta, kl;  // at most one; KL 0.5 without
  std::int64_t rollouts = 64;      // K that logit and normal see: with the exact C they are infinite
  bool raw_scale = false, sweep = false, recommend = false, json = false;
  double kl_max = 3;
  std::filesystem::path html;
};

/// The options, read. Errors: ConfigurationError.
struct DesignQuestion {
  explicit DesignQuestion(const DesignOptions& options);

  std::vector<MatchupSpec> matchups;
  alignment::Deployment deployment;
  std::vector<TransformSpec> transforms;
  std::vector<ProcedureSpec> measure;
  std::optional<double> beta;
  double kl;  // without beta

  /// Where exponentials are chosen: the KL asked for, or what the optimal transform has at the beta.
  double kl_of_choice() const;
  std::string label() const { return label_of(matchups); }
  /// `procedure` and `n` of the JSON.
  std::string procedure() const;
  std::int64_t candidates() const { return deployment.policy_candidates(); }
};

/// What the optimum of one transform reaches.
struct DesignRow {
  TransformSpec transform;
  alignment::Prediction reached;
  std::vector<double> win_rates;  // of the question's `measure`
  std::string trouble;            // why it reaches nothing; the rest is empty then
};
std::vector<DesignRow> design_rows(const DesignQuestion& question);
/// The KLs of a sweep's table; its points lie closer.
constexpr double kRoundKls[] = {0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7, 10};
/// The same at KLs from 0 (excluded) to `kl_max`, transform by transform; a curve ends where it cannot go on.
std::vector<DesignRow> design_sweep(const DesignQuestion& question, double kl_max);

struct Recommendation {
  alignment::BestExponential exponential;
  alignment::Prediction optimal;
  std::optional<double> saturation_kl;  // up to kSaturationHighest
  struct Needed {
    std::optional<alignment::RolloutsLoss> fixed, fresh;
  } exponential_rollouts, optimal_rollouts;
  std::int64_t bound = 1;  // fewer fixed rollouts do not carry the KL at all: H_K < KL
};
constexpr double kSaturationMargin = 0.01, kSaturationHighest = 6, kMostLostToRollouts = 0.005;
Recommendation recommend(const DesignQuestion& question);

/// One line for a configuration whose fixed rollouts cost more than kMostLostToRollouts of the inference win
/// rate at this KL, saying what they cost and how many would do; "" if they are enough or nothing is known.
std::string rollouts_advice(const alignment::TransformSettings& transform,
                            const alignment::Deployment& deployment, double kl, std::int64_t rollouts);

/// The same for every variant of an experiment that trains on fixed rollouts at a target KL.
std::vector<std::string> rollouts_advice(const experiment::Experiment& experiment);
/// Lines that each begin with '#', so that they may stand below a YAML file; "" for none.
std::string as_comments(const std::vector<std::string>& lines);

/// The command: text, or JSON lines, to `out`; with `html` a page. Errors: ConfigurationError, also when no
/// transform reaches anything; std::runtime_error if the page cannot be written.
void design(const DesignOptions& options, std::ostream& out);

// How it is shown (design_output.cpp).
std::string design_table(const DesignQuestion& question, const std::vector<DesignRow>& rows);
std::string sweep_table(const DesignQuestion& question, const std::vector<DesignRow>& points);
std::string recommendation_text(const DesignQuestion& question, const Recommendation& recommendation);
std::string design_json(const DesignQuestion& question, const DesignRow& row);
std::string recommendation_json(const DesignQuestion& question, const Recommendation& recommendation);
/// The lines of a configuration that asks for the best of the rows, and for the rollouts it needs.
std::string design_yaml(const DesignQuestion& question, const std::vector<DesignRow>& rows,
                        const std::optional<Recommendation>& recommendation = std::nullopt);
std::string design_page(const DesignQuestion& question, const std::vector<DesignRow>& rows,
                        const std::vector<DesignRow>& points, double kl_max,
                        const std::string& gnuplot = "gnuplot");

}  // namespace infalign::stages
