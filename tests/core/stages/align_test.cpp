// The align stage against the closed forms: a softmax policy over a table of responses, trained by the same
// code that trains language models, must reach the analytic optimum of every transform.
#include "core/stages/align.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "core/alignment/theory.h"
#include "core/alignment/transform.h"
#include "core/stages/shuffle.h"
#include "core/stages/tabular_problem.h"

namespace infalign::stages {
namespace {

constexpr std::int64_t kResponses = 256;
constexpr std::int64_t kPrompts = 4;

/// Rewards of prompt p: distinct, in shuffled order, on a scale of the prompt's own.
std::vector<std::vector<float>> reward_tables() {
  std::vector<std::vector<float>> tables;
  for (std::int64_t p = 0; p < kPrompts; ++p) {
    auto& row = tables.emplace_back();
    for (const auto rank : permutation(5, kResponses, p))
      row.push_back(static_cast<float>(
          std::pow(10.0, p - 1) *
          std::log((static_cast<double>(rank) + 0.5) / (kResponses - 0.5 - static_cast<double>(rank)))));
  }
  return tables;
}

/// The exact calibration: every response once.
alignment::Calibration exact_calibration(const std::vector<std::vector<float>>& tables) {
  std::vector<float> sorted;
  for (auto row : tables) {
    std::sort(row.begin(), row.end());
    sorted.insert(sorted.end(), row.begin(), row.end());
  }
  return {alignment::CalibrationMode::kPrompt, sorted, kResponses, alignment::RewardSketch()};
}

struct WinRates {
  double standard = 0, inference = 0;
};

/// Win rates of the tabular policy, exactly: W_T = 1 - integral of H(G) dH over the ranks, ties one half.
WinRates measure(const TabularProblem& problem, const std::vector<std::vector<float>>& tables,
                 const alignment::Calibration& calibration, const alignment::Procedure& procedure,
                 std::span<const float> parameters) {
  WinRates mean;
  for (std::int64_t prompt = 0; prompt < kPrompts; ++prompt) {
    const auto p = problem.probabilities(parameters, prompt);
    std::vector<double> by_rank(kResponses);
    for (std::size_t i = 0; i < p.size(); ++i)
      by_rank[static_cast<std::size_t>(calibration(prompt, tables[static_cast<std::size_t>(prompt)][i]) *
                                       kResponses)] = p[i];
    double G = 0;
    WinRates win;
    for (std::size_t i = 0; i < by_rank.size(); ++i) {
      const double u0 = static_cast<double>(i) / kResponses, u1 = static_cast<double>(i + 1) / kResponses;
      const double mass = procedure.cumulative(G + by_rank[i]) - procedure.cumulative(G);
      win.inference += mass * (procedure.cumulative(u0) + procedure.cumulative(u1)) / 2;
      win.standard += by_rank[i] * (u0 + u1) / 2;
      G = std::min(1.0, G + by_rank[i]);
    }
    mean.standard += win.standard / kPrompts;
    mean.inference += win.inference / kPrompts;
  }
  return mean;
}

/// An experiment in a fresh folder, of `steps` steps on the tables with a fixed beta.
experiment::Experiment tabular_experiment(const std::string& name, const std::string& transform, double beta,
                                          std::int64_t steps) {
  experiment::Experiment experiment;
  experiment.name = "tabular";
  experiment.output = std::filesystem::path(testing::TempDir()) / ("infalign_align_" + name);
  std::filesystem::remove_all(experiment.output);
  std::filesystem::create_directories(experiment.output);
  experiment.inference = {"best_of_n", 4};
  experiment.alignment.steps = steps;
  experiment.alignment.prompts_per_step = kPrompts;
  experiment.alignment.samples_per_prompt = 128;
  experiment.checkpoint = {1 << 30, 1};
  experiment::Variant variant;
  variant.name = "tabular";
  variant.transform = transform;
  variant.exponent = 10;
  variant.beta = beta;
  variant.optimizer.learning_rate = 0.1;
  variant.optimizer.schedule = "cosine";
  variant.optimizer.final_learning_rate_fraction = 0.001;
  variant.optimizer.max_gradient_norm = 0;
  experiment.alignment.variants = {variant};
  return experiment;
}

/// The aligned parameters, trained on the ranks of `communicator`.
std::vector<float> train(const experiment::Experiment& experiment, distributed::Communicator& communicator,
                         TabularProblem& problem) {
  stages::Run run{experiment, communicator};
  run.progress = false;
  std::vector<float> parameters(problem.reference().size());
  align_variant(run, problem, exact_calibration(reward_tables()), experiment.alignment.variants.front(),
                parameters);
  return parameters;
}

struct Case {
  std::string transform;
  double beta;
};

class AnalyticOptimum : public testing::TestWithParam<Case> {};

TEST_P(AnalyticOptimum, IsReachedByTheAlignStage) {
  const auto& [transform, beta] = GetParam();
  auto experiment = tabular_experiment(transform + std::to_string(beta), transform, beta, 2500);
  experiment.distributed.micro_batch_prompts = 2;
  const auto tables = reward_tables();
  TabularProblem problem(tables);
  const auto calibration = exact_calibration(tables);
  const auto parameters = train(experiment, *distributed::make_local(), problem);

  const auto procedure = alignment::make_procedure("best_of_n", 4);
  alignment::TransformSettings settings;
  settings.kind = alignment::transform_kind(transform);
  settings.exponent = experiment.alignment.variants.front().exponent;
  const auto predicted = alignment::predict(
      [&](double b) { return alignment::make_transform(settings, procedure, b); }, procedure, beta);
  const auto measured = measure(problem, tables, calibration, procedure, parameters);
  EXPECT_NEAR(measured.standard, predicted.standard_win_rate, 0.002);
  EXPECT_NEAR(measured.inference, predicted.inference_win_rate, 0.002);
  std::filesystem::remove_all(experiment.output);
}

// Around the betas of KL 0.5 for each transform.
INSTANTIATE_TEST_SUITE_P(
    Transforms, AnalyticOptimum,
    testing::Values(Case{"identity", 0.2}, Case{"identity", 0.3}, Case{"identity", 0.6},  //
                    Case{"log", 0.4}, Case{"log", 0.8}, Case{"log", 1.6},                 //
                    Case{"exponential", 0.2}, Case{"exponential", 0.4}, Case{"exponential", 0.8},
                    Case{"optimal", 0.3}, Case{"optimal", 0.6}, Case{"optimal", 1.2}),
    [](const auto& info) {
      auto name = info.param.transform + "_" + std::to_string(info.param.beta).substr(0, 3);
      std::replace(name.begin(), name.end(), '.', '_');
      return name;
    });

TEST(Align, GivesTheSameBitsOnAnyNumberOfRanks) {
  auto experiment = tabular_experiment("ranks", "optimal", 0.5, 5);
  experiment.distributed.micro_batch_prompts = 1;
  TabularProblem alone(reward_tables());
  const auto expected = train(experiment, *distributed::make_local(), alone);
  for (const int ranks : {2, 3, 4, 5}) {
    std::filesystem::remove_all(experiment.output);
    std::filesystem::create_directories(experiment.output);
    distributed::run_threads(ranks, [&](distributed::Communicator& communicator) {
      TabularProblem problem(reward_tables());
      EXPECT_EQ(train(experiment, communicator, problem), expected)
          << "rank " << communicator.rank() << " of " << ranks;
    });
  }
}

/// Fails in the middle of a step, as a machine does.
class FailingProblem : public TabularProblem {
 public:
  FailingProblem(std::vector<std::vector<float>> rewards, int calls)
      : TabularProblem(std::move(rewards)), left_(calls) {}
  void score(Rollouts& rollouts, bool judge) override {
    if (left_-- == 0) throw std::runtime_error("the machine is gone");
    TabularProblem::score(rollouts, judge);
  }

 private:
  int left_;
};

TEST(Align, GoesOnAfterAFailureToTheSameBits) {
  auto experiment = tabular_experiment("resume", "identity", 0.3, 7);
  experiment.distributed.micro_batch_prompts = 2;
  experiment.checkpoint = {2, 2};
  TabularProblem whole(reward_tables());
  const auto expected = train(experiment, *distributed::make_local(), whole);
  for (int calls = 0; calls < 14; calls += 3) {
    std::filesystem::remove_all(experiment.output);
    std::filesystem::create_directories(experiment.output);
    FailingProblem failing(reward_tables(), calls);
    EXPECT_THROW(train(experiment, *distributed::make_local(), failing), std::runtime_error);
    distributed::run_threads(3, [&](distributed::Communicator& communicator) {
      TabularProblem problem(reward_tables());
      EXPECT_EQ(train(experiment, communicator, problem), expected) << "after " << calls << " calls";
    });
  }
}

}  // namespace
}  // namespace infalign::stages
