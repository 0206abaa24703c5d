// The loop that every training stage shares: sharded optimizer, schedule, metrics, progress, checkpoints,
// resume, the polite stop. A stage says how the gradient of a step comes about; N steps are the same to the
// bit as k steps, an interruption and N - k steps, on any number of ranks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/experiment/experiment.h"
#include "core/json/json.h"
#include "core/model/transformer.h"
#include "core/stages/background_checkpoints.h"
#include "core/stages/run.h"
#include "core/stages/trainable.h"
#include "core/storage/checkpoint.h"
#include "distributed/sharded_optimizer.h"

namespace infalign::stages {

struct TrainingPlan {
  std::string stage;    // "align"
  std::string variant;  // of an alignment; else ""
  std::int64_t steps = 0;
  experiment::OptimizerSettings optimizer;
  std::filesystem::path checkpoints;  // folder of step_NNNNNN folders
  std::string fingerprint;            // of everything that decides the result: another one starts anew
  std::int64_t max_skipped_steps = 10;
  std::int64_t micro_batches = 1;  // of a step, over all ranks
  bool sharded = false;            // of the parameters each rank holds its interval (stage 3)
  std::vector<distributed::GradientPart> gradient_parts = {};  // in which passes compute it
};

/// What a step's gradients pass reports; `note` goes to the progress line.
struct StepReport {
  OrderedJson metrics;
  std::string note;
};

/// Learning rate of a step (counting from 1): linear warm-up, then constant, linear or cosine decay.
double learning_rate(const experiment::OptimizerSettings& settings, std::int64_t step, std::int64_t steps);

/// Every setting that decides a training, as exact text: for fingerprints.
std::string to_text(const experiment::OptimizerSettings& settings);

class Training {
 public:
  /// `trained` begins with the starting point, on all ranks alike or, where parameters are sharded, with what
  /// each holds of it; the newest checkpoint of the same fingerprint replaces it, if there is one.
  Training(Run& run, TrainingPlan plan, std::vector<storage::TensorPlace> tensors, const Trainable& trained);

  /// Small things that go into checkpoints beside parameters and moments, as text.
  std::map<std::string, std::string>& state() { return state_; }
  std::int64_t steps_done() const { return steps_done_; }
  bool finished() const { return steps_done_ >= plan_.steps; }

  /// Does the remaining steps. `gradients(step)` (step counts from 1) adds this rank's micro-batches through
  /// optimizer(); `after(step)` runs once the step is applied and before it may be checkpointed (controllers;
  /// writes state()). Checkpoints are written while later steps go on; all are in place on return. Errors:
  /// Stopped after a checkpoint when a stop was requested; std::runtime_error after too many non-finite
  /// steps, and, at a later step, when a checkpoint could not be written.
  void run(const std::function<StepReport(std::int64_t step)>& gradients,
           const std::function<void(std::int64_t step)>& after = {});

  distributed::ShardedOptimizer& optimizer() { return optimizer_; }
  /// Where a backward pass adds a micro-batch's gradient, and whom it tells how far it has come.
  model::GradientPlace gradient() {
    return model::GradientPlace([this](std::int64_t offset) { return optimizer_.gradient_at(offset); });
  }
  model::CompleteFrom complete_from() {
    return [this](std::int64_t offset) { optimizer_.complete_from(offset); };
  }

 private:
  /// Goes on from the newest checkpoint of the same fingerprint, if there is one. A damaged one is an error
  /// (InputError), or is passed over where the configuration says so.
  void resume();
  /// On the root: the newest checkpoint of the same fingerprint that is not among `damaged`, or "". Older
  /// ones of other inputs are removed.
  std::string newest_checkpoint(const std::vector<std::string>& damaged) const;
  /// Takes over a checkpoint. Returns what is wrong with it, on all ranks, or "". Collective.
  std::string read_checkpoint(const std::filesystem::path& folder);
  void save(std::int64_t step);
  /// So far, of gradients and parameters alike: that work waited for other ranks, and that what they exchange
  /// was under way.
  double exposed_seconds() const { return optimizer_.exposed_seconds() + run_.fetching->waited; }
  double communication_seconds() const { return optimizer_.communication_seconds() + run_.fetching->taken; }

  Run& run_;
  TrainingPlan plan_;
  std::vector<storage::TensorPlace> tensors_;
  distributed::ShardedOptimizer optimizer_;
  kernels::Buffer<float> own_parameters_;  // where passes read a copy
  std::span<float> parameters_;            // these, or those that passes read
  BackgroundCheckpoints checkpoints_;
  std::map<std::string, std::string> state_;
  std::int64_t steps_done_ = 0;
  std::int64_t skipped_ = 0;
};

/// Doubles to and from exact text (hexadecimal floats), for state().
std::string to_text(std::span<const double> values);
std::vector<double> from_text(const std::string& text);

}  // namespace infalign::stages
