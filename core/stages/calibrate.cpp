#include "core/stages/calibrate.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/json/json.h"
#include "core/stages/progress.h"
#include "core/storage/durable.h"

namespace infalign::stages {
namespace {

// Quantiles of the pooled rewards that the file holds exactly.
constexpr double kLevels[] = {0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0};
// Micro-batches between two saved parts. A part is some seconds' work on one rank of a small model.
constexpr std::int64_t kMicroBatchesPerPart = 64;

std::string sampling_json(const experiment::Sampling& sampling) {
  return json_text(OrderedJson{{"temperature", sampling.temperature},
                               {"top_p", sampling.top_p},
                               {"max_new_tokens", sampling.max_new_tokens}});
}

storage::CalibrationFile empty_file(const Run& run, const Problem& problem) {
  storage::CalibrationFile file;
  file.rollouts = run.experiment.calibration.rollouts_per_prompt;
  file.sampling = sampling_json(run.experiment.sampling);
  file.reference_fingerprint = problem.reference_fingerprint();
  file.reward_fingerprint = problem.reward_fingerprint();
  file.prompts_fingerprint = prompts_fingerprint(problem, Split::kTrain);
  file.seed = run.experiment.seed;
  return file;
}

/// Sorts each row of rewards [prompts, K].
void sort_each(std::vector<float>& rewards, std::int64_t K) {
  for (auto row = rewards.begin(); row != rewards.end(); row += K) std::sort(row, row + K);
}

/// Sorted rewards [prompts of the part, K] and the summed response length, on all ranks.
struct Part {
  std::vector<float> rewards;
  double length_sum = 0;
};

Part sample_part(Run& run, Problem& problem, const std::vector<std::vector<std::int64_t>>& batches) {
  const auto K = run.experiment.calibration.rollouts_per_prompt;
  const auto own = own_micro_batches(run, static_cast<std::int64_t>(batches.size()));
  std::vector<float> rewards;
  std::vector<double> lengths;
  for (auto b = own.begin; b < own.end; ++b) {
    auto rollouts = problem.sample(Answerer::kReference, Split::kTrain, batches[static_cast<std::size_t>(b)],
                                   K, {run.experiment.seed, kernels::Purpose::kCalibration});
    problem.score(rollouts, false);
    require_finite_rewards(problem, rollouts);
    double length = 0;
    for (std::size_t i = 0; i < rollouts.size(); ++i)
      length += static_cast<double>(rollouts.response(i).tokens.size());
    lengths.push_back(length);
    sort_each(rollouts.reward, K);
    rewards.insert(rewards.end(), rollouts.reward.begin(), rollouts.reward.end());
  }
  Part part;
  part.rewards = gather(run, rewards);
  const auto all_lengths = gather(run, lengths);
  part.length_sum = std::accumulate(all_lengths.begin(), all_lengths.end(), 0.0);
  return part;
}

/// The pooled sketch of all ranks' shares of the table, and its exact quantiles by a second pass.
void pool(Run& run, storage::CalibrationFile& file) {
  const auto P = static_cast<std::int64_t>(file.prompt_id.size());
  const auto own = own_micro_batches(run, P);
  const std::span<const float> mine(file.rewards.data() + own.begin * file.rollouts,
                                    static_cast<std::size_t>(own.size() * file.rollouts));
  alignment::RewardSketch sketch;
  sketch.add(mine);
  run.ranks.all_reduce_sum(sketch.counts());
  file.pooled_counts.assign(sketch.counts().begin(), sketch.counts().end());
  file.quantile_levels.assign(std::begin(kLevels), std::end(kLevels));
  if (run.experiment.calibration.exact_quantiles) {
    alignment::QuantileRefinement refinement(sketch, file.quantile_levels);
    refinement.add(mine);
    run.ranks.all_reduce_sum(refinement.counts());
    file.quantile_values = refinement.quantiles();
  } else {
    for (const double level : file.quantile_levels) file.quantile_values.push_back(sketch.quantile(level));
  }
}

std::filesystem::path part_path(const std::filesystem::path& folder, std::size_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "part_%06zu.h5", number);
  return folder / name;
}

}  // namespace

storage::CalibrationFile sample_calibration(Run& run, Problem& problem, const std::filesystem::path& parts) {
  auto file = empty_file(run, problem);
  std::vector<std::int64_t> prompts(static_cast<std::size_t>(problem.prompt_count(Split::kTrain)));
  std::iota(prompts.begin(), prompts.end(), 0);
  for (const auto p : prompts) {
    file.prompt_text.push_back(problem.prompt_text(Split::kTrain, p));
    file.prompt_id.push_back(problem.prompt_id(Split::kTrain, p));
  }
  const auto per_batch = run.experiment.distributed.micro_batch_prompts;
  const auto rounds = micro_batches(prompts, per_batch * kMicroBatchesPerPart);
  Progress progress("calibrate", static_cast<std::int64_t>(prompts.size()), run.root() && run.progress);
  double length_sum = 0;
  for (std::size_t round = 0; round < rounds.size(); ++round) {
    const auto path = part_path(parts, round);
    const auto first = static_cast<std::size_t>(rounds[round].front());
    Part part;
    if (run.from_root([&]() -> std::string { return std::filesystem::exists(path) ? "yes" : "no"; }) ==
        "yes") {
      const auto saved = storage::read_calibration(path);
      part = {saved.rewards, saved.mean_response_length};
    } else {
      part = sample_part(run, problem, micro_batches(rounds[round], per_batch));
      if (run.root()) {
        auto saved = empty_file(run, problem);
        for (std::size_t i = 0; i < rounds[round].size(); ++i) {
          saved.prompt_text.push_back(file.prompt_text[first + i]);
          saved.prompt_id.push_back(file.prompt_id[first + i]);
        }
        saved.rewards = part.rewards;
        saved.mean_response_length = part.length_sum;  // of a part: the sum
        alignment::RewardSketch sketch;
        sketch.add(part.rewards);
        saved.pooled_counts.assign(sketch.counts().begin(), sketch.counts().end());
        std::filesystem::create_directories(parts);
        storage::write_calibration(path, saved);
      }
    }
    file.rewards.insert(file.rewards.end(), part.rewards.begin(), part.rewards.end());
    length_sum += part.length_sum;
    progress.update(static_cast<std::int64_t>(first + rounds[round].size()));
    if (run.stop_requested() && round + 1 < rounds.size())
      throw Stopped("stopped on request after prompt " + std::to_string(first + rounds[round].size()) +
                    " of the calibration; start again to go on");
  }
  progress.finish("");
  file.mean_response_length = length_sum / static_cast<double>(file.rollouts) /
                              static_cast<double>(std::max<std::size_t>(1, prompts.size()));
  const auto [least, most] = std::minmax_element(file.rewards.begin(), file.rewards.end());
  if (*least == *most)
    throw InputError("the reward model gives the same reward (" + std::to_string(*least) +
                     ") to every response: there is nothing to align to");
  pool(run, file);
  return file;
}

void require_same_inputs(const storage::CalibrationFile& calibration, const std::filesystem::path& path,
                         const experiment::Experiment& experiment, const Problem& problem) {
  const auto refuse = [&](const std::string& what) {
    throw InputError(path.string() + ": made with " + what + "; calibrate anew (remove the file)");
  };
  if (calibration.sampling != sampling_json(experiment.sampling))
    refuse("other sampling settings (" + calibration.sampling + ", this run has " +
           sampling_json(experiment.sampling) + ")");
  if (calibration.reference_fingerprint != problem.reference_fingerprint())
    refuse("another reference policy");
  if (calibration.reward_fingerprint != problem.reward_fingerprint()) refuse("another reward model");
  if (calibration.prompts_fingerprint != prompts_fingerprint(problem, Split::kTrain))
    refuse("other training prompts");
  if (calibration.rollouts != experiment.calibration.rollouts_per_prompt)
    refuse(std::to_string(calibration.rollouts) + " rollouts per prompt (this run wants " +
           std::to_string(experiment.calibration.rollouts_per_prompt) + ")");
}

alignment::Calibration make_calibration(const storage::CalibrationFile& file,
                                        const experiment::Calibration& settings) {
  alignment::RewardSketch pooled;
  std::copy(file.pooled_counts.begin(), file.pooled_counts.end(), pooled.counts().begin());
  const auto mode = settings.mode == "prompt"   ? alignment::CalibrationMode::kPrompt
                    : settings.mode == "global" ? alignment::CalibrationMode::kGlobal
                                                : alignment::CalibrationMode::kHierarchical;
  return alignment::Calibration(mode, file.rewards, file.rollouts, std::move(pooled),
                                settings.prior_strength);
}

alignment::Calibration fresh_calibration(const Run& run, Problem& problem,
                                         std::span<const std::int64_t> prompts, std::int64_t step) {
  const auto K = run.experiment.calibration.rollouts_per_prompt;
  // Samples 0 to K - 1 are those of calibration.h5.
  auto rollouts = problem.sample(Answerer::kReference, Split::kTrain, prompts, K,
                                 {run.experiment.seed, kernels::Purpose::kCalibration},
                                 static_cast<std::uint32_t>(step * K));
  problem.score(rollouts, false);
  require_finite_rewards(problem, rollouts);
  sort_each(rollouts.reward, K);
  return {alignment::CalibrationMode::kPrompt, rollouts.reward, K, alignment::RewardSketch()};
}

alignment::Calibration load_calibration(const Run& run, const Problem& problem) {
  const auto path = run.experiment.calibration_path();
  const auto file = storage::read_calibration(path);
  require_same_inputs(file, path, run.experiment, problem);
  return make_calibration(file, run.experiment.calibration);
}

void calibrate(Run& run) {
  const auto made = make_problem(run);
  Problem& problem = *made;
  const auto& settings = run.experiment.calibration;
  const auto path = run.experiment.calibration_path();
  if (!settings.reuse.empty()) {
    const auto file = storage::read_calibration(settings.reuse);
    require_same_inputs(file, settings.reuse, run.experiment, problem);
    if (run.root()) storage::write_calibration(path, file);
    run.ranks.barrier();
    log_line(run, "calibrate: reusing " + settings.reuse.string());
    return;
  }
  storage::Fingerprint fingerprint;
  fingerprint.add(problem.reference_fingerprint())
      .add(problem.reward_fingerprint())
      .add(prompts_fingerprint(problem, Split::kTrain));
  fingerprint.add(sampling_json(run.experiment.sampling)).add(std::to_string(settings.rollouts_per_prompt));
  fingerprint.add(std::to_string(run.experiment.seed))
      .add(std::to_string(run.experiment.distributed.micro_batch_prompts));
  if (run.is_done("calibrate", fingerprint.hex(), path)) {
    log_line(run, "calibrate: done before, kept");
    return;
  }
  const auto parts = run.experiment.output / (".calibration-" + fingerprint.hex());
  const auto file = sample_calibration(run, problem, parts);
  if (run.root()) {
    storage::write_calibration(path, file);
    std::filesystem::remove_all(parts);
  }
  run.mark_done("calibrate", fingerprint.hex());
  log_line(run, "calibrate: " + std::to_string(file.prompt_id.size()) + " prompts x " +
                    std::to_string(file.rollouts) + " rollouts -> " + path.string());
}

}  // namespace infalign::stages
