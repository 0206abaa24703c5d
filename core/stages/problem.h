// What alignment needs of the world: prompts, a family of policies over one flat parameter buffer, a frozen
// reference among them, and rewards. The language model is one such problem; a table of responses per prompt,
// whose optimum is known in closed form, is another; calibrate, align and evaluate are the same code for
// both.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/experiment/experiment.h"
#include "core/model/generation.h"
#include "core/model/transformer.h"
#include "core/stages/trainable.h"
#include "core/storage/checkpoint.h"
#include "distributed/communicator.h"
#include "distributed/gradient_sum.h"
#include "kernels/device.h"
#include "kernels/random/philox.h"

namespace infalign::stages {

struct Run;

enum class Split { kTrain, kHeldout };

/// Who answers: pi_ref, frozen, or the policy in training.
enum class Answerer { kReference, kPolicy };

/// The samples of one micro-batch: B prompts, n responses each. Arrays [B, n] are row-major.
struct Rollouts {
  Split split = Split::kTrain;
  std::vector<std::int64_t> prompts;                    // [B] indices into the split
  std::int64_t samples = 0;                             // n
  std::vector<std::vector<model::Response>> responses;  // [B][n]
  std::vector<float> reward;                            // [B, n]; r(x, y)
  std::vector<float> judge_reward;                      // [B, n]; empty when the reward model judges
  std::vector<float> reranker_reward;                   // [B, n]; selects; empty when the reward does
  std::vector<std::int64_t> answer;  // [B, n]; equal numbers are equal answers; empty when none are asked
  std::vector<std::vector<float>> reference_log_probability;  // [B * n][length], of each token under pi_ref

  std::size_t size() const { return prompts.size() * static_cast<std::size_t>(samples); }
  const model::Response& response(std::size_t i) const {
    const auto n = static_cast<std::size_t>(samples);
    return responses[i / n][i % n];
  }
  /// By which the procedure chooses, [B, n].
  const std::vector<float>& selecting() const { return reranker_reward.empty() ? reward : reranker_reward; }
  /// log pi(y) - log pi_ref(y) of response i under the policy that drew it.
  double log_ratio(std::size_t i) const;
};

using ReadParameters = std::function<void(distributed::Interval interval, std::span<float> values)>;

/// Parameters and gradients are memory of the device that the run computes on.
class Problem {
 public:
  virtual ~Problem() = default;

  /// The policies from here on are those of this variant, which may train an adapter of its own. Errors:
  /// ConfigurationError for one that the model cannot have.
  virtual void choose_policies(const experiment::Variant&) {}
  /// The flat parameter buffer of policies.
  virtual const std::vector<storage::TensorPlace>& tensors() const = 0;
  std::int64_t parameter_count() const { return tensors().back().offset + tensors().back().size; }
  /// Whether of that buffer each rank holds its interval (stage 3 of sharding).
  virtual bool shards_policies() const { return false; }
  /// The parts in which passes compute their gradient; none where it is all one.
  virtual std::vector<distributed::GradientPart> gradient_parts() const { return {}; }
  /// A policy to be trained, which starts as pi_ref, until other policies are chosen or another is asked for.
  /// Collective where policies are sharded.
  virtual Trainable trainable() = 0;
  /// The policy is from here on that of parameters which are not trained further: read(interval, values)
  /// gives those of an interval of the buffer, on the CPU. Collective where policies are sharded.
  virtual void load_policy(const ReadParameters& read) = 0;

  virtual std::int64_t prompt_count(Split split) const = 0;
  /// What a person should know about the prompts, such as how many were left out; a line each.
  virtual std::vector<std::string> notes() const { return {}; }
  virtual std::string prompt_text(Split split, std::int64_t prompt) const = 0;
  /// Names the prompt's random numbers; the same text has the same id in every run.
  virtual std::uint64_t prompt_id(Split split, std::int64_t prompt) const = 0;
  virtual std::string response_text(const model::Response& response) const = 0;

  /// The policy is from here on the trainable one as it is now; to be called again whenever it has changed.
  /// Collective where policies are sharded.
  virtual void set_policy() = 0;

  /// n samples of each prompt, without rewards.
  virtual Rollouts sample(Answerer answerer, Split split, std::span<const std::int64_t> prompts,
                          std::int64_t n, kernels::RandomKey key, std::uint32_t first_sample = 0) = 0;

  /// Fills rollouts.reward, reranker_reward and answer where there are such, and judge_reward if asked and
  /// there is a judge of its own.
  virtual void score(Rollouts& rollouts, bool judge) = 0;

  /// Fills rollouts.reference_log_probability.
  virtual void score_reference(Rollouts& rollouts) = 0;

  /// Adds to `gradient` that of sum over i, t of coefficient[i] log pi(y_it | ...) of the policy, coefficient
  /// [B, n]. Returns the largest distance between the log-probability of a token here and the sampler's, in
  /// nats. `complete_from` is told as by Transformer::backward.
  virtual double accumulate_gradient(const Rollouts& rollouts, std::span<const double> coefficient,
                                     const model::GradientPlace& gradient,
                                     const model::CompleteFrom& complete_from) = 0;

  /// Fingerprints of what decides the samples and of what decides the rewards.
  virtual std::string reference_fingerprint() const = 0;
  virtual std::string reward_fingerprint() const = 0;
};

/// The problem of the run's experiment: its tables if it has a synthetic section, else its language models
/// and prompts, whose notes are logged once a run.
std::unique_ptr<Problem> make_problem(Run& run);

/// Cuts `prompts` into micro-batches of the configured size (the last may be shorter).
std::vector<std::vector<std::int64_t>> micro_batches(std::span<const std::int64_t> prompts,
                                                     std::int64_t size);

/// Names the prompts of a split and their order.
std::string prompts_fingerprint(const Problem& problem, Split split);

/// Throws InputError naming prompt and response for a reward that is NaN or infinite.
void require_finite_rewards(const Problem& problem, const Rollouts& rollouts);

}  // namespace infalign::stages
