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
#include "core/experiment/deployment.h"
#include "core/stages/shuffle.h"
#include "core/stages/tabular_problem.h"

namespace infalign::stages {
namespace {

constexpr std::int64_t kResponses = 256;
constexpr std::int64_t kPromptCount = 4;

/// Rewards of prompt p: distinct, in shuffled order, on a scale of the prompt's own.
std::vector<std::vector<float>> reward_tables() {
  std::vector<std::vector<float>> tables;
  for (std::int64_t p = 0; p < kPromptCount; ++p) {
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

/// Win rates of the tabular policy, exactly: W_T = 1 - integral of H(G) dK over the ranks, ties one half.
WinRates measure(const TabularProblem& problem, const std::vector<std::vector<float>>& tables,
                 const alignment::Calibration& calibration, const alignment::Deployment& deployment,
                 std::span<const float> parameters) {
  WinRates mean;
  for (std::int64_t prompt = 0; prompt < kPromptCount; ++prompt) {
    const auto p = problem.probabilities(parameters, prompt);
    std::vector<double> by_rank(kResponses);
    for (std::size_t i = 0; i < p.size(); ++i)
      by_rank[static_cast<std::size_t>(calibration(prompt, tables[static_cast<std::size_t>(prompt)][i]) *
                                       kResponses)] = p[i];
    double G = 0;
    for (std::size_t i = 0; i < by_rank.size(); ++i) {
      const double u0 = static_cast<double>(i) / kResponses, u1 = static_cast<double>(i + 1) / kResponses;
      const double above = std::min(1.0, G + by_rank[i]);
      for (const auto& [share, policy, opponent] : deployment.matchups()) {
        const double mass = policy.cumulative(above) - policy.cumulative(G);
        mean.inference +=
            share * mass * (opponent.cumulative(u0) + opponent.cumulative(u1)) / 2 / kPromptCount;
      }
      mean.standard += by_rank[i] * (u0 + u1) / 2 / kPromptCount;
      G = above;
    }
  }
  return mean;
}

/// An experiment in a fresh folder, of `steps` steps on the tables with a fixed beta.
experiment::Experiment tabular_experiment(const std::string& name, const experiment::Inference& inference,
                                          const std::string& transform, double beta, std::int64_t steps) {
  experiment::Experiment experiment;
  experiment.name = "tabular";
  experiment.output = std::filesystem::path(testing::TempDir()) / ("infalign_align_" + name);
  std::filesystem::remove_all(experiment.output);
  std::filesystem::create_directories(experiment.output);
  experiment.inference = inference;
  experiment.alignment.steps = steps;
  experiment.alignment.prompts_per_step = kPromptCount;
  experiment.alignment.samples_per_prompt = 128;
  experiment.checkpoint.every = 1 << 30;
  experiment.checkpoint.keep = 1;
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
  align_variant(run, problem, exact_calibration(reward_tables()), experiment.alignment.variants.front());
  return {problem.policy().begin(), problem.policy().end()};
}

experiment::Inference drawn_by(const std::string& procedure, std::int64_t n = 1) {
  experiment::Inference inference;
  inference.procedure = procedure;
  inference.n = n;
  return inference;
}

struct Tabular {
  std::string name;
  experiment::Inference inference;
  std::string transform;
  double beta;
};
void PrintTo(const Tabular& c, std::ostream* out) { *out << c.name << ", beta " << c.beta; }

class AnalyticOptimum : public testing::TestWithParam<Tabular> {};

TEST_P(AnalyticOptimum, IsReachedByTheAlignStage) {
  const auto& [name, inference, transform, beta] = GetParam();
  auto experiment =
      tabular_experiment(name + transform + std::to_string(beta), inference, transform, beta, 2500);
  experiment.distributed.micro_batch_prompts = 2;
  const auto tables = reward_tables();
  TabularProblem problem(tables);
  const auto calibration = exact_calibration(tables);
  const auto parameters = train(experiment, *distributed::make_local(), problem);

  const auto deployment = experiment::deployment(inference);
  alignment::TransformSettings settings;
  // Leave-one-out rewards have the optimal transform's expectation.
  settings.kind = alignment::transform_kind(transform == "leave_one_out" ? "optimal" : transform);
  settings.exponent = experiment.alignment.variants.front().exponent;
  const auto predicted = alignment::predict(
      [&](double b) { return alignment::make_transform(settings, deployment, b); }, deployment, beta);
  const auto measured = measure(problem, tables, calibration, deployment, parameters);
  EXPECT_NEAR(measured.standard, predicted.standard_win_rate, 0.002);
  EXPECT_NEAR(measured.inference, predicted.inference_win_rate, 0.002);
  std::filesystem::remove_all(experiment.output);
}

std::string case_name(const testing::TestParamInfo<Tabular>& info) {
  auto name =
      info.param.name + "_" + info.param.transform + "_" + std::to_string(info.param.beta).substr(0, 3);
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

// Around the betas of KL 0.5 for each transform.
std::vector<Tabular> transforms_of_best_of_4() {
  std::vector<Tabular> cases;
  const auto add = [&](const std::string& transform, std::initializer_list<double> betas) {
    for (double beta : betas) cases.push_back({"best_of_4", drawn_by("best_of_n", 4), transform, beta});
  };
  add("identity", {0.2, 0.3, 0.6});
  add("log", {0.4, 0.8, 1.6});
  add("exponential", {0.2, 0.4, 0.8});
  add("optimal", {0.3, 0.6, 1.2});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Transforms, AnalyticOptimum, testing::ValuesIn(transforms_of_best_of_4()),
                         case_name);

/// The optimal transform of every calibrated procedure, of a pair and of a mixture; and the leave-one-out
/// rewards that need to know none of it.
std::vector<Tabular> deployments() {
  std::vector<Tabular> cases{{"standard", drawn_by("standard"), "optimal", 0.3},
                             {"worst_of_4", drawn_by("worst_of_n", 4), "optimal", 0.4},
                             {"median_of_5", drawn_by("median_of_n", 5), "optimal", 0.4},
                             {"best_of_2", drawn_by("best_of_n", 2), "optimal", 0.3},
                             {"best_of_4", drawn_by("best_of_n", 4), "leave_one_out", 0.6}};
  auto third = drawn_by("kth_of_n", 4);
  third.k = 3;
  cases.push_back({"third_of_4", third, "optimal", 0.4});
  auto soft = drawn_by("soft_best_of_n");
  soft.strength = 4;
  cases.push_back({"soft", soft, "optimal", 0.4});
  auto random = drawn_by("best_of_random_n");
  random.weights = {0.5, 0, 0, 0.5};
  cases.push_back({"random", random, "optimal", 0.3});
  auto above = drawn_by("above_quantile", 16);
  above.quantile = 0.75;
  cases.push_back({"above_quantile", above, "optimal", 0.5});
  auto pair = drawn_by("best_of_n", 8);
  pair.opponent.emplace();
  cases.push_back({"best_of_8_against_standard", pair, "optimal", 0.2});
  experiment::Inference mixture;
  mixture.mixture = {drawn_by("standard"), drawn_by("best_of_n", 4), drawn_by("best_of_n", 16)};
  mixture.mixture[0].share = 0.5, mixture.mixture[1].share = 0.3, mixture.mixture[2].share = 0.2;
  cases.push_back({"mixture", mixture, "optimal", 0.3});
  cases.push_back({"mixture", mixture, "leave_one_out", 0.3});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Deployments, AnalyticOptimum, testing::ValuesIn(deployments()), case_name);

TEST(Align, GivesTheSameBitsOnAnyNumberOfRanks) {
  auto experiment = tabular_experiment("ranks", drawn_by("best_of_n", 4), "optimal", 0.5, 5);
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
  auto experiment = tabular_experiment("resume", drawn_by("best_of_n", 4), "identity", 0.3, 7);
  experiment.distributed.micro_batch_prompts = 2;
  experiment.checkpoint.every = 2;
  experiment.checkpoint.keep = 2;
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
