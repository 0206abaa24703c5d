#include "core/stages/tabular_problem.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <stdexcept>

#include "core/storage/durable.h"

namespace infalign::stages {

namespace {

/// Three numbers of prompt and response for its rewards: counted as samples 0 of the prompt, at three
/// positions.
struct Draws {
  std::uint64_t seed, prompt;
  double uniform(std::uint32_t response, std::uint32_t position) const {
    return kernels::random_uniform({seed, kernels::Purpose::kTables}, prompt, response, position);
  }
  /// By Box and Muller.
  double normal(std::uint32_t response, std::uint32_t position) const {
    const double radius = std::sqrt(-2 * std::log1p(-uniform(response, position)));
    return radius * std::cos(2 * std::numbers::pi * uniform(response, position + 1));
  }
};

constexpr std::uint32_t kOfThePrompt = 0xFFFFFFFF;  // in the place of a response

double drawn_reward(const experiment::Synthetic& settings, const Draws& draws, std::uint32_t response,
                    double pass_rate) {
  const double u = draws.uniform(response, 0);
  if (settings.rewards == "uniform") return u;
  if (settings.rewards == "heavy") return std::tan(std::numbers::pi * (u - 0.5));
  if (settings.rewards == "levels") return std::floor(u * static_cast<double>(settings.levels));
  if (settings.rewards == "verifier") return u < pass_rate ? 1 : 0;
  return draws.normal(response, 0);
}

}  // namespace

Tables make_tables(const experiment::Synthetic& settings, std::uint64_t seed) {
  Tables tables;
  for (std::int64_t prompt = 0; prompt < settings.prompts; ++prompt) {
    const Draws draws{seed, static_cast<std::uint64_t>(prompt)};
    const double scale = std::exp(settings.scale_spread * draws.normal(kOfThePrompt, 0));
    const double offset = settings.offset_spread * draws.normal(kOfThePrompt, 2);
    // Pass rates of prompts spread as q^(1/r - 1), q uniform: their mean is r.
    const double pass_rate = std::pow(draws.uniform(kOfThePrompt, 4), 1 / settings.pass_rate - 1);
    auto& rewards = tables.reward.emplace_back();
    for (std::int64_t i = 0; i < settings.responses; ++i) {
      const double drawn = drawn_reward(settings, draws, static_cast<std::uint32_t>(i), pass_rate);
      rewards.push_back(static_cast<float>(offset + scale * drawn));
    }
    if (settings.answers == 0) continue;
    auto& answers = tables.answer.emplace_back();
    const bool verified = settings.rewards == "verifier";
    for (std::int64_t i = 0; i < settings.responses; ++i) {
      const double u = draws.uniform(static_cast<std::uint32_t>(i), 7);
      const bool right = verified && rewards[static_cast<std::size_t>(i)] > offset + 0.5 * scale;
      const std::int64_t wrong_ones = settings.answers - (verified ? 1 : 0);
      const auto other = static_cast<std::int64_t>(u * static_cast<double>(wrong_ones));
      answers.push_back(right ? 0 : other + (verified ? 1 : 0));
    }
  }
  return tables;
}

TabularProblem::TabularProblem(Tables tables)
    : tables_(std::move(tables)),
      responses_(tables_.reward.empty() ? 0 : static_cast<std::int64_t>(tables_.reward.front().size())) {
  if (responses_ == 0) throw std::invalid_argument("a table needs at least one prompt and one response");
  const auto count = static_cast<std::size_t>(responses_);
  storage::Fingerprint fingerprint;
  for (const auto& row : tables_.reward) {
    if (row.size() != count) throw std::invalid_argument("prompts with unequal numbers of responses");
    for (const float reward : row)
      fingerprint.add(std::to_string(std::bit_cast<std::uint32_t>(reward)) + ",");
  }
  for (const auto& row : tables_.answer) {
    if (row.size() != count) throw std::invalid_argument("prompts with unequal numbers of answers");
    for (const std::int64_t answer : row) fingerprint.add(std::to_string(answer) + ",");
  }
  fingerprint_ = fingerprint.hex();
  const auto prompts = static_cast<std::int64_t>(tables_.reward.size());
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

Rollouts TabularProblem::sample(Answerer answerer, Split split, std::span<const std::int64_t> prompts,
                                std::int64_t n, kernels::RandomKey key, std::uint32_t first_sample) {
  Rollouts rollouts;
  rollouts.split = split;
  rollouts.prompts.assign(prompts.begin(), prompts.end());
  rollouts.samples = n;
  for (const auto prompt : prompts) {
    const auto p = probabilities(
        answerer == Answerer::kReference ? std::span<const float>(reference_) : policy_, prompt);
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
  rollouts.answer.clear();
  for (std::size_t i = 0; i < rollouts.size(); ++i) {
    const auto prompt =
        static_cast<std::size_t>(rollouts.prompts[i / static_cast<std::size_t>(rollouts.samples)]);
    const auto response = static_cast<std::size_t>(rollouts.response(i).tokens[0]);
    rollouts.reward.push_back(tables_.reward[prompt][response]);
    if (!tables_.answer.empty()) rollouts.answer.push_back(tables_.answer[prompt][response]);
  }
}

void TabularProblem::score_reference(Rollouts& rollouts) {
  const auto uniform = static_cast<float>(-std::log(static_cast<double>(responses_)));
  rollouts.reference_log_probability.assign(rollouts.size(), {uniform});
}

double TabularProblem::accumulate_gradient(const Rollouts& rollouts, std::span<const double> coefficient,
                                           const model::GradientPlace& gradient, const model::CompleteFrom&) {
  double gap = 0;
  for (std::size_t b = 0; b < rollouts.prompts.size(); ++b) {
    const auto p = probabilities(policy_, rollouts.prompts[b]);
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
    float* const of_prompt = gradient.at(rollouts.prompts[b] * responses_);
    for (std::size_t i = 0; i < p.size(); ++i) of_prompt[i] += static_cast<float>(d_logit[i] - total * p[i]);
  }
  return gap;
}

}  // namespace infalign::stages
