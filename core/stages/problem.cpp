#include "core/stages/problem.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/stages/language_problem.h"
#include "core/stages/run.h"
#include "core/stages/tabular_problem.h"
#include "core/storage/durable.h"

namespace infalign::stages {

double Rollouts::log_ratio(std::size_t i) const {
  const auto& drawn = response(i).log_probabilities;
  const auto& reference = reference_log_probability[i];
  double sum = 0;
  for (std::size_t t = 0; t < drawn.size(); ++t)
    sum += static_cast<double>(drawn[t]) - static_cast<double>(reference[t]);
  return sum;
}

std::unique_ptr<Problem> make_problem(Run& run) {
  const auto& experiment = run.experiment;
  if (experiment.synthetic)
    return std::make_unique<TabularProblem>(make_tables(*experiment.synthetic, experiment.seed));
  auto problem = std::make_unique<LanguageProblem>(experiment, run.on, make_shards(run), machine_memory(run));
  for (const auto& note : problem->notes()) log_once(run, note);
  return problem;
}

std::vector<std::vector<std::int64_t>> micro_batches(std::span<const std::int64_t> prompts,
                                                     std::int64_t size) {
  std::vector<std::vector<std::int64_t>> batches;
  for (std::size_t begin = 0; begin < prompts.size(); begin += static_cast<std::size_t>(size)) {
    const auto end = std::min(prompts.size(), begin + static_cast<std::size_t>(size));
    batches.emplace_back(prompts.begin() + static_cast<std::ptrdiff_t>(begin),
                         prompts.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return batches;
}

std::string prompts_fingerprint(const Problem& problem, Split split) {
  storage::Fingerprint fingerprint;
  for (std::int64_t p = 0; p < problem.prompt_count(split); ++p)
    fingerprint.add(std::to_string(problem.prompt_id(split, p)) + ",");
  return fingerprint.hex();
}

void require_finite_rewards(const Problem& problem, const Rollouts& rollouts) {
  for (const auto* rewards : {&rollouts.reward, &rollouts.judge_reward, &rollouts.reranker_reward}) {
    for (std::size_t i = 0; i < rewards->size(); ++i) {
      if (std::isfinite((*rewards)[i])) continue;
      const auto prompt = rollouts.prompts[i / static_cast<std::size_t>(rollouts.samples)];
      throw InputError("the reward of sample " +
                       std::to_string(i % static_cast<std::size_t>(rollouts.samples)) + " of prompt " +
                       std::to_string(prompt) + " (\"" +
                       problem.prompt_text(rollouts.split, prompt).substr(0, 60) + "\") is " +
                       std::to_string((*rewards)[i]) + "; rewards must be finite numbers");
    }
  }
}

}  // namespace infalign::stages
