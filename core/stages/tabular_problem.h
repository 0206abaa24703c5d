// The alignment problem whose optimum is known: for each prompt a table of responses with given rewards, a
// uniform reference, and a softmax over the table as policy. It runs through the same calibrate, align and
// evaluate as a language model, so the method can be checked against its closed forms, and be studied without
// a model.
#pragma once

#include <algorithm>
#include <vector>

#include "core/stages/problem.h"

namespace infalign::stages {

/// What a tabular problem is made of; all prompts have the same number of responses.
struct Tables {
  std::vector<std::vector<float>> reward;  // [prompts][responses]
  std::vector<std::vector<std::int64_t>>
      answer;  // the same, to vote on; empty when there is nothing to vote on
};

/// The tables of a `synthetic` section, drawn from the seed.
Tables make_tables(const experiment::Synthetic& settings, std::uint64_t seed);

class TabularProblem : public Problem {
 public:
  /// Errors: std::invalid_argument for no or unequal numbers of responses.
  explicit TabularProblem(Tables tables);
  explicit TabularProblem(std::vector<std::vector<float>> rewards)
      : TabularProblem(Tables{std::move(rewards), {}}) {}

  const std::vector<storage::TensorPlace>& tensors() const override { return tensors_; }
  Trainable trainable() override {
    policy_ = reference_;
    return {policy_};
  }
  void load_policy(const ReadParameters& read) override {
    read({0, parameter_count()}, trainable().parameters);
  }
  std::int64_t prompt_count(Split) const override { return static_cast<std::int64_t>(tables_.reward.size()); }
  std::string prompt_text(Split, std::int64_t prompt) const override {
    return "table " + std::to_string(prompt);
  }
  std::uint64_t prompt_id(Split, std::int64_t prompt) const override {
    return static_cast<std::uint64_t>(prompt);
  }
  std::string response_text(const model::Response& response) const override {
    return std::to_string(response.tokens.at(0));
  }
  void set_policy() override {}
  /// Its logits [prompts, responses].
  std::span<const float> policy() const { return policy_; }
  Rollouts sample(Answerer answerer, Split split, std::span<const std::int64_t> prompts, std::int64_t n,
                  kernels::RandomKey key, std::uint32_t first_sample) override;
  void score(Rollouts& rollouts, bool judge) override;
  void score_reference(Rollouts& rollouts) override;
  double accumulate_gradient(const Rollouts& rollouts, std::span<const double> coefficient,
                             const model::GradientPlace& gradient,
                             const model::CompleteFrom& complete_from) override;
  std::string reference_fingerprint() const override { return "uniform"; }
  std::string reward_fingerprint() const override { return fingerprint_; }
  const Tables& tables() const { return tables_; }

  /// pi(. | prompt), [responses].
  std::vector<double> probabilities(std::span<const float> parameters, std::int64_t prompt) const;

 private:
  Tables tables_;
  std::int64_t responses_;
  std::string fingerprint_;
  std::vector<storage::TensorPlace> tensors_;
  std::vector<float> reference_;  // logits [prompts, responses], all zero
  std::vector<float> policy_;
};

}  // namespace infalign::stages
