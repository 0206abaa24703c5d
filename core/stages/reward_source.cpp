#include "core/stages/reward_source.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.h"
#include "core/stages/adapter_folder.h"
#include "core/stages/closing_token.h"
#include "core/stages/reward_command.h"
#include "core/storage/durable.h"

namespace infalign::stages {
namespace {

bool same_tokenizer(const std::filesystem::path& a, const std::filesystem::path& b) {
  const auto tokenizer = [](const std::filesystem::path& folder) {
    return storage::read_file(description_folder(folder) / "tokenizer.json");
  };
  return tokenizer(a) == tokenizer(b);
}

Combination combination_of(const std::string& name) {
  if (name == "minimum") return Combination::kMinimum;
  return name == "lower_bound" ? Combination::kLowerBound : Combination::kMean;
}

}  // namespace

RewardModel::RewardModel(const std::filesystem::path& folder, const std::filesystem::path& policy_folder,
                         const std::string& read_at, const kernels::Stream& on, kernels::Precision precision,
                         kernels::Precision stored, const Holders& holders)
    : folder_(ModelFolder::load_frozen(folder, stored, {}, holders, on)),
      weights_(folder_.prepare(on, kernels::Use::kScoring, precision)),
      shares_tokenizer_(same_tokenizer(folder, policy_folder)),
      closing_(closing_token(description_folder(folder), folder_.tokenizer, read_at)) {
  if (!folder_.transformer.config().score_head)
    throw InputError(folder.string() +
                     ": not a reward model: config.json must name a *ForSequenceClassification " +
                     "architecture with one label, and the weights hold score.weight");
}

std::vector<float> RewardModel::score(const kernels::Stream& on, std::span<const std::int32_t> prompt_ids,
                                      const std::string& prompt_text,
                                      std::span<const std::vector<std::int32_t>> response_ids,
                                      const std::vector<std::string>& response_texts) {
  model::PackedBatch batch;
  std::vector<std::int32_t> own_prompt;
  if (!shares_tokenizer_) {
    own_prompt = folder_.tokenizer.encode(prompt_text);
    prompt_ids = own_prompt;
  }
  const auto prompt = batch.add(prompt_ids);
  std::vector<std::int32_t> rows;
  for (std::size_t i = 0; i < response_ids.size(); ++i) {
    auto ids = shares_tokenizer_ ? response_ids[i] : folder_.tokenizer.encode_continuation(response_texts[i]);
    if (closing_) ids.push_back(*closing_);
    const auto& segment =
        batch.segments[static_cast<std::size_t>(ids.empty() ? prompt : batch.add(ids, prompt))];
    rows.push_back(segment.begin + segment.length - 1);
  }
  const auto longest = *std::max_element(batch.positions.begin(), batch.positions.end()) + 1;
  if (longest > folder_.transformer.config().max_positions)
    throw InputError(folder_.path.string() + ": prompt and response are " + std::to_string(longest) +
                     " tokens, the reward model reads at most " +
                     std::to_string(folder_.transformer.config().max_positions));
  return folder_.transformer.score(on, weights_, batch, rows, activations_);
}

std::string RewardModel::fingerprint() const {
  const auto of_folder = fingerprint_folder(folder_.path);
  if (!closing_) return of_folder;
  return storage::Fingerprint().add(of_folder).add("closed by " + std::to_string(*closing_)).hex();
}

float combined(std::span<const float> rewards, Combination combination, double kappa) {
  for (const float reward : rewards)
    if (!std::isfinite(reward)) return reward;
  if (combination == Combination::kMinimum) return *std::min_element(rewards.begin(), rewards.end());
  const auto count = static_cast<double>(rewards.size());
  double sum = 0, squares = 0;
  for (const float reward : rewards) sum += static_cast<double>(reward);
  const double mean = sum / count;
  if (combination == Combination::kMean) return static_cast<float>(mean);
  for (const float reward : rewards) squares += std::pow(static_cast<double>(reward) - mean, 2);
  return static_cast<float>(mean - kappa * std::sqrt(squares / count));
}

RewardEnsemble::RewardEnsemble(std::vector<std::unique_ptr<RewardSource>> sources, Combination combination,
                               double kappa)
    : sources_(std::move(sources)), combination_(combination), kappa_(kappa) {}

std::vector<float> RewardEnsemble::score(const kernels::Stream& on, std::span<const std::int32_t> prompt_ids,
                                         const std::string& prompt_text,
                                         std::span<const std::vector<std::int32_t>> response_ids,
                                         const std::vector<std::string>& response_texts) {
  std::vector<std::vector<float>> of_source;
  for (const auto& source : sources_)
    of_source.push_back(source->score(on, prompt_ids, prompt_text, response_ids, response_texts));
  std::vector<float> rewards, one(sources_.size());
  for (std::size_t i = 0; i < response_ids.size(); ++i) {
    for (std::size_t s = 0; s < one.size(); ++s) one[s] = of_source[s][i];
    rewards.push_back(combined(one, combination_, kappa_));
  }
  return rewards;
}

bool RewardEnsemble::reads_text() const {
  return std::any_of(sources_.begin(), sources_.end(), [](const auto& s) { return s->reads_text(); });
}

std::string RewardEnsemble::fingerprint() const {
  storage::Fingerprint fingerprint;
  for (const auto& source : sources_) fingerprint.add(source->fingerprint());
  fingerprint.add(std::to_string(static_cast<int>(combination_)));
  if (combination_ == Combination::kLowerBound)
    fingerprint.add(std::to_string(std::bit_cast<std::uint64_t>(kappa_)));
  return fingerprint.hex();
}

std::unique_ptr<RewardSource> make_reward_source(const std::string& name,
                                                 const experiment::RewardChoice& choice,
                                                 const std::filesystem::path& policy_folder,
                                                 const kernels::Stream& on, kernels::Precision precision,
                                                 kernels::Precision stored, const Holders& holders) {
  if (!choice.command.empty())
    return std::make_unique<RewardCommand>(name, choice.command, choice.timeout, choice.restarts);
  std::vector<std::unique_ptr<RewardSource>> models;
  for (const auto& folder : choice.models)
    models.push_back(
        std::make_unique<RewardModel>(folder, policy_folder, choice.read_at, on, precision, stored, holders));
  if (models.empty()) return nullptr;
  if (models.size() == 1) return std::move(models.front());
  return std::make_unique<RewardEnsemble>(std::move(models), combination_of(choice.combine), choice.kappa);
}

}  // namespace infalign::stages
