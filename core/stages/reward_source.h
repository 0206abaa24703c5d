// Where rewards come from: a model folder with a score head, several models combined, or a program
// (reward_command.h). A run knows only the source.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/experiment/experiment.h"
#include "core/stages/model_folder.h"
#include "kernels/device.h"
#include "kernels/precision.h"

namespace infalign::stages {

class RewardSource {
 public:
  virtual ~RewardSource() = default;

  /// One reward for each response of `prompt`: prompt and responses as ids of the policy's tokenizer, and as
  /// text. `response_texts` may be empty where reads_text() is false. Errors: InputError for what the source
  /// cannot score.
  virtual std::vector<float> score(const kernels::Stream& on, std::span<const std::int32_t> prompt_ids,
                                   const std::string& prompt_text,
                                   std::span<const std::vector<std::int32_t>> response_ids,
                                   const std::vector<std::string>& response_texts) = 0;

  /// Whether the texts of responses have to be given.
  virtual bool reads_text() const = 0;

  /// Names what decides the rewards. Errors: InputError for files that cannot be read.
  virtual std::string fingerprint() const = 0;
};

/// The reward model of a folder. A response's reward is read at its last token, its stop token left out, or
/// at a stop token put behind it, whether it had one or not (docs/rewards.md tells why).
class RewardModel final : public RewardSource {
 public:
  /// Its weights are held in `stored`, with `shards` divided among their ranks. When the folder's tokenizer
  /// is the policy's, ids are passed on; otherwise text is. `read_at` as closing_token() takes it. Errors:
  /// InputError for a folder that is no reward model.
  RewardModel(const std::filesystem::path& folder, const std::filesystem::path& policy_folder,
              const std::string& read_at = "as_saved", const kernels::Stream& on = {},
              kernels::Precision precision = kernels::Precision::kFloat32,
              kernels::Precision stored = kernels::Precision::kFloat32, const Holders& holders = {});

  std::vector<float> score(const kernels::Stream& on, std::span<const std::int32_t> prompt_ids,
                           const std::string& prompt_text,
                           std::span<const std::vector<std::int32_t>> response_ids,
                           const std::vector<std::string>& response_texts) override;
  bool reads_text() const override { return !shares_tokenizer_; }
  std::string fingerprint() const override;

 private:
  ModelFolder folder_;
  model::Weights weights_;
  bool shares_tokenizer_;
  std::optional<std::int32_t> closing_;
  model::Activations activations_;
};

/// How the rewards of several sources become one.
enum class Combination { kMean, kMinimum, kLowerBound };

/// r_1, ..., r_m combined: their mean, their minimum, or mean - kappa * standard deviation, the root of the
/// mean squared distance to the mean (divided by m). The order of the sources does not matter but for
/// rounding; sums are in double. A reward that is not finite is returned as it is, never hidden.
float combined(std::span<const float> rewards, Combination combination, double kappa);

/// Several sources, each asked for every response.
class RewardEnsemble final : public RewardSource {
 public:
  /// `sources`: at least one. `kappa` is kLowerBound's.
  RewardEnsemble(std::vector<std::unique_ptr<RewardSource>> sources, Combination combination, double kappa);

  std::vector<float> score(const kernels::Stream& on, std::span<const std::int32_t> prompt_ids,
                           const std::string& prompt_text,
                           std::span<const std::vector<std::int32_t>> response_ids,
                           const std::vector<std::string>& response_texts) override;
  bool reads_text() const override;
  std::string fingerprint() const override;

 private:
  std::vector<std::unique_ptr<RewardSource>> sources_;
  Combination combination_;
  double kappa_;
};

/// What the configuration says under `name` ("model.reward", ...), which names it in messages; null where it
/// says nothing. Errors: InputError for a folder that is no reward model.
std::unique_ptr<RewardSource> make_reward_source(const std::string& name,
                                                 const experiment::RewardChoice& choice,
                                                 const std::filesystem::path& policy_folder,
                                                 const kernels::Stream& on = {},
                                                 kernels::Precision precision = kernels::Precision::kFloat32,
                                                 kernels::Precision stored = kernels::Precision::kFloat32,
                                                 const Holders& holders = {});

}  // namespace infalign::stages
