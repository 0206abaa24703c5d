// The alignment problem of a language model: prompts from JSON lines, a decoder as policy and reference,
// rewards from whatever reads prompt and response.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/experiment/experiment.h"
#include "core/stages/answers.h"
#include "core/stages/model_folder.h"
#include "core/stages/narrow_model.h"
#include "core/stages/problem.h"
#include "core/stages/prompt_set.h"
#include "core/stages/reward_source.h"
#include "kernels/device.h"

namespace infalign::stages {

/// The response's tokens without the stop token that ended it: what is shown and what is scored.
std::vector<std::int32_t> without_stop(const model::Response& response);

class LanguageProblem final : public Problem {
 public:
  /// Reads models and prompts; with `shards` models and policies are divided among their ranks, with
  /// `machine` models are held once on each, either of which is collective. Errors: InputError for anything
  /// wrong with them.
  LanguageProblem(const experiment::Experiment& experiment, const kernels::Stream& on,
                  std::shared_ptr<ParameterShards> shards = nullptr,
                  distributed::MachineMemory* machine = nullptr);

  const std::vector<storage::TensorPlace>& tensors() const override { return tensors_; }
  void choose_policies(const experiment::Variant& variant) override;
  bool shards_policies() const override { return shards_ && !adapter_; }
  std::vector<distributed::GradientPart> gradient_parts() const override {
    if (adapter_) return {};
    return stages::gradient_parts(reference_.transformer.layout());
  }
  Trainable trainable() override;
  void load_policy(const ReadParameters& read) override;
  std::int64_t prompt_count(Split split) const override;
  std::vector<std::string> notes() const override { return prompts_.notes; }
  std::string prompt_text(Split split, std::int64_t prompt) const override;
  std::uint64_t prompt_id(Split split, std::int64_t prompt) const override;
  std::string response_text(const model::Response& response) const override;
  void set_policy() override;
  Rollouts sample(Answerer answerer, Split split, std::span<const std::int64_t> prompts, std::int64_t n,
                  kernels::RandomKey key, std::uint32_t first_sample) override;
  void score(Rollouts& rollouts, bool judge) override;
  void score_reference(Rollouts& rollouts) override;
  double accumulate_gradient(const Rollouts& rollouts, std::span<const double> coefficient,
                             const model::GradientPlace& gradient,
                             const model::CompleteFrom& complete_from) override;
  std::string reference_fingerprint() const override { return reference_fingerprint_; }
  std::string reward_fingerprint() const override { return reward_fingerprint_; }

  /// The folder of the reference, where policies start.
  const ModelFolder& policy_folder() const { return reference_; }
  /// The adapter that the chosen policies are; null where they are whole models.
  const model::AdapterLayout* adapter() const { return adapter_ ? &*adapter_ : nullptr; }

 private:
  struct Packed {
    model::PackedBatch batch;
    model::Targets targets;
  };

  const PromptSet& prompts(Split split) const {
    return split == Split::kTrain ? prompts_.train : prompts_.heldout;
  }
  Packed pack(const Rollouts& rollouts) const;
  void give_back_policy();
  /// Memory for a policy, on this rank all of it or its part: one in bfloat16, or what is returned.
  std::span<float> make_room();
  /// The reference's weights for one use, prepared when first asked for. Policies that are adapters stand on
  /// them, so that where there are such all uses share what is prepared for training.
  const model::Weights& reference_weights(kernels::Use use);
  std::vector<float> rewards(RewardSource& source, const Rollouts& rollouts) const;

  std::shared_ptr<ParameterShards> shards_;  // null: all is held whole
  kernels::Stream on_;
  experiment::Sampling sampling_;
  kernels::Precision precision_;
  model::Keep keep_;  // for the gradient
  ModelFolder reference_;
  std::map<kernels::Use, model::Weights> reference_weights_;
  bool has_adapters_;  // among the variants
  std::uint64_t seed_;
  std::optional<model::AdapterLayout> adapter_;
  model::Weights policy_weights_;
  std::optional<std::uint64_t> rounding_seed_;  // of policies in bfloat16
  bool in_bfloat16_;                            // so policies are read that are no adapters
  std::optional<NarrowModel> narrow_policy_;    // the policy's parameters: these, or ...
  kernels::Buffer<float> policy_;               // ... these, unless ...
  model::Gathering sharded_policy_;             // ... they are sharded
  bool may_be_gathered_ = false;                // of these: all ranks have written what they hold
  std::vector<storage::TensorPlace> tensors_;
  std::unique_ptr<RewardSource> reward_, judge_, reranker_;  // judge and reranker may be null
  std::optional<Answers> answers_;
  PromptSets prompts_;
  std::string reference_fingerprint_, reward_fingerprint_;
  model::Generator generator_;
  model::Activations activations_;
  model::TokenLogProbabilities log_probabilities_;
  kernels::Buffer<float> d_hidden_;
};

}  // namespace infalign::stages
