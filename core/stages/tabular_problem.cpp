#include "core/stages/tabular_problem.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace infalign::stages {

TabularProblem::TabularProblem(std::vector<std::vector<float>> rewards)
    : rewards_(std::move(rewards)),
      responses_(rewards_.empty() ? 0 : static_cast<std::int64_t>(rewards_.front().size())) {
  if (responses_ == 0) throw std::invalid_argument("a table needs at least one prompt and one response");
  for (const auto& row : rewards_)
    if (static_cast<std::int64_t>(row.size()) != responses_)
      throw std::invalid_argument("prompts with unequal numbers of responses");
  const auto prompts = static_cast<std::int64_t>(rewards_.size());
  tensors_ = {{"logits", {prompts, responses_}, 0, prompts * responses_}};
  reference_.resize(static_cast<std::size_t>(prompts * responses_));
}

std::vector<double> TabularProblem::probabilities(std::span<const float> parameters,
                                                  std::int64_t prompt) const {
  const auto logits =
      parameters.subspan(static_cast<std::size_t>(prompt * responses_), static_cast<std::size_t>(responses_));
  const double peak = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p(logits.size());
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) sum += p[i] = std::exp(static_cast<double>(logits[i]) - peak);
  for (auto& value : p) value /= sum;
  return p;
}

Rollouts TabularProblem::sample(std::span<const float> parameters, Split split,
                                std::span<const std::int64_t> prompts, std::int64_t n, kernels::RandomKey key,
                                std::uint32_t first_sample) {
  Rollouts rollouts;
  rollouts.split = split;
  rollouts.prompts.assign(prompts.begin(), prompts.end());
  rollouts.samples = n;
  for (const auto prompt : prompts) {
    const auto p = probabilities(parameters, prompt);
    std::vector<double> cumulative(p.size());
    double sum = 0;
    for (std::size_t i = 0; i < p.size(); ++i) cumulative[i] = sum += p[i];
    auto& responses = rollouts.responses.emplace_back();
    for (std::int64_t s = 0; s < n; ++s) {
      const double u = sum * kernels::random_uniform(key, prompt_id(split, prompt),
                                                     first_sample + static_cast<std::uint32_t>(s), 0);
      const auto at = std::min<std::size_t>(
          p.size() - 1, static_cast<std::size_t>(std::upper_bound(cumulative.begin(), cumulative.end(), u) -
                                                 cumulative.begin()));
      const auto log_probability = static_cast<float>(std::log(p[at]));
      responses.push_back({{static_cast<std::int32_t>(at)}, {log_probability}, {log_probability}, true});
    }
  }
  return rollouts;
}

void TabularProblem::score(Rollouts& rollouts, bool) {
  rollouts.reward.clear();
  for (std::size_t i = 0; i < rollouts.size(); ++i) {
    const auto& row =
        rewards_[static_cast<std::size_t>(rollouts.prompts[i / static_cast<std::size_t>(rollouts.samples)])];
    rollouts.reward.push_back(row[static_cast<std::size_t>(rollouts.response(i).tokens[0])]);
  }
}

void TabularProblem::score_reference(Rollouts& rollouts) {
  const auto uniform = static_cast<float>(-std::log(static_cast<double>(responses_)));
  rollouts.reference_log_probability.assign(rollouts.size(), {uniform});
}

double TabularProblem::accumulate_gradient(std::span<const float> parameters, const Rollouts& rollouts,
                                           std::span<const double> coefficient, std::span<float> gradient) {
  double gap = 0;
  for (std::size_t b = 0; b < rollouts.prompts.size(); ++b) {
    const auto p = probabilities(parameters, rollouts.prompts[b]);
    std::vector<double> d_logit(p.size());
    double total = 0;
    for (std::int64_t s = 0; s < rollouts.samples; ++s) {
      const auto i = b * static_cast<std::size_t>(rollouts.samples) + static_cast<std::size_t>(s);
      const auto at = static_cast<std::size_t>(rollouts.response(i).tokens[0]);
      d_logit[at] += coefficient[i];
      total += coefficient[i];
      gap = std::max(
          gap, std::abs(std::log(p[at]) - static_cast<double>(rollouts.response(i).log_probabilities[0])));
    }
    const auto offset = static_cast<std::size_t>(rollouts.prompts[b] * responses_);
    for (std::size_t i = 0; i < p.size(); ++i)
      gradient[offset + i] += static_cast<float>(d_logit[i] - total * p[i]);
  }
  return gap;
}

}  // namespace infalign::stages
