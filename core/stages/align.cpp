#include "core/stages/align.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <optional>

#include "core/alignment/estimators.h"
#include "core/alignment/reinforce.h"
#include "core/error.h"
#include "core/experiment/deployment.h"
#include "core/experiment/writer.h"
#include "core/stages/calibrate.h"
#include "core/stages/precision.h"
#include "core/stages/shuffle.h"
#include "core/stages/trainee.h"
#include "core/stages/training.h"
#include "core/stages/transformed_reward.h"
#include "core/storage/durable.h"

namespace infalign::stages {
namespace {

/// What a step reports of each response; gathered over the ranks in micro-batch order.
struct SampleRecord {
  double reward, calibrated_reward, transformed_reward, log_ratio, length;
};

/// Means over all samples of a step.
struct StepMeans {
  SampleRecord mean{};
  double kl_k3 = 0;
  double tokens = 0;
};

StepMeans means(const std::vector<SampleRecord>& records) {
  StepMeans means;
  const auto n = static_cast<double>(records.size());
  for (const auto& record : records) {
    means.mean.reward += record.reward / n;
    means.mean.calibrated_reward += record.calibrated_reward / n;
    means.mean.transformed_reward += record.transformed_reward / n;
    means.mean.log_ratio += alignment::kl_k1(record.log_ratio) / n;
    means.kl_k3 += alignment::kl_k3(record.log_ratio) / n;
    means.mean.length += record.length / n;
    means.tokens += record.length;
  }
  return means;
}

/// Win rate of the policy's samples of a step against the calibration's rewards, where these suffice.
class TrainingWinRate {
 public:
  TrainingWinRate(const alignment::Deployment& deployment, std::int64_t rollouts, std::int64_t samples)
      : deployment_(deployment), known_(samples >= deployment.policy_candidates()) {
    for (const auto& matchup : deployment_.matchups()) {
      const bool votes = matchup.policy.reads_answers || matchup.opponent.reads_answers;
      known_ = known_ && !votes && rollouts >= matchup.opponent.n;
    }
  }
  bool known() const { return known_; }
  double operator()(const PromptSamples& samples) const {
    const auto table = samples.calibration.rewards(samples.row);
    return alignment::win_rate(deployment_, {samples.selecting, samples.reward, samples.answer},
                               {table, table}, samples.seed);
  }

 private:
  alignment::Deployment deployment_;
  bool known_;
};

std::uint64_t subset_seed(std::uint64_t seed, std::uint64_t prompt, std::int64_t step) {
  return kernels::random_bits({seed, kernels::Purpose::kSubsets}, prompt, static_cast<std::uint32_t>(step),
                              0);
}

}  // namespace

std::string alignment_fingerprint(const Run& run, const Problem& problem,
                                  const experiment::Variant& variant) {
  const auto& experiment = run.experiment;
  storage::Fingerprint fingerprint;
  fingerprint.add(problem.reference_fingerprint()).add(problem.reward_fingerprint());
  fingerprint.add(prompts_fingerprint(problem, Split::kTrain)).add(to_text(variant.optimizer));
  const std::vector<double> numbers = {static_cast<double>(experiment.seed),
                                       variant.exponent,
                                       variant.debiased ? 1.0 : 0.0,
                                       variant.cut,
                                       variant.beta.value_or(-1),
                                       variant.target_kl.value_or(-1),
                                       static_cast<double>(experiment.alignment.steps),
                                       static_cast<double>(experiment.alignment.prompts_per_step),
                                       static_cast<double>(experiment.alignment.samples_per_prompt),
                                       static_cast<double>(experiment.distributed.micro_batch_prompts),
                                       static_cast<double>(experiment.calibration.rollouts_per_prompt),
                                       experiment.calibration.prior_strength.value_or(-1),
                                       experiment.calibration.fresh ? 1.0 : 0.0,
                                       experiment.sampling.temperature,
                                       experiment.sampling.top_p,
                                       static_cast<double>(experiment.sampling.max_new_tokens),
                                       experiment.distributed.reproducible ? 1.0 : 0.0};
  fingerprint.add(to_text(numbers)).add(to_text(variant.points)).add(variant.transform);
  fingerprint.add(experiment::section_yaml(experiment, "inference"));
  fingerprint.add(experiment.calibration.mode).add(experiment.alignment.objective);
  fingerprint.add(to_text(variant.lora));
  return with_policy_storage(fingerprint.hex(), experiment, variant.lora);
}

void align_variant(Run& run, Problem& problem, const alignment::Calibration& calibration,
                   const experiment::Variant& variant) {
  const auto& experiment = run.experiment;
  const auto& settings = experiment.alignment;
  const auto n = settings.samples_per_prompt;
  const auto count = static_cast<std::size_t>(n);
  const auto deployment = experiment::deployment(experiment.inference);
  const double samples_per_step = static_cast<double>(settings.prompts_per_step * n);

  problem.choose_policies(variant);
  Training training(
      run,
      {"align", variant.name, settings.steps, variant.optimizer, experiment.checkpoint_folder(variant.name),
       alignment_fingerprint(run, problem, variant), settings.max_skipped_steps,
       micro_batch_count(settings.prompts_per_step, experiment.distributed.micro_batch_prompts),
       problem.shards_policies(), problem.gradient_parts()},
      problem.tensors(), problem.trainable());
  TransformedReward transformed_reward(deployment, variant, calibration.rollouts(), n);
  const TrainingWinRate training_win_rate(deployment, calibration.rollouts(), n);
  alignment::KlController controller(transformed_reward.initial_beta(calibration),
                                     variant.target_kl.value_or(0), settings.steps);
  if (const auto saved = training.state().find("kl_controller"); saved != training.state().end())
    controller.restore(from_text(saved->second));
  const auto beta = [&] { return variant.beta ? *variant.beta : controller.beta(); };

  double step_kl = 0;
  const auto step_gradients = [&](std::int64_t step) {
    transformed_reward.set_beta(beta());
    problem.set_policy();
    const auto prompts = shuffled_batch(experiment.seed, problem.prompt_count(Split::kTrain),
                                        settings.prompts_per_step, step - 1);
    const auto batches = micro_batches(prompts, experiment.distributed.micro_batch_prompts);
    const auto own = own_micro_batches(run, static_cast<std::int64_t>(batches.size()));
    std::vector<SampleRecord> records;
    std::vector<double> win_rates;
    double gap = 0;
    for (auto b = own.begin; b < own.end; ++b) {
      // Sample from the policy; every step has its own samples of a prompt.
      auto rollouts = problem.sample(Answerer::kPolicy, Split::kTrain, batches[static_cast<std::size_t>(b)],
                                     n, {experiment.seed, kernels::Purpose::kPolicy},
                                     static_cast<std::uint32_t>((step - 1) * n));
      problem.score(rollouts, false);
      require_finite_rewards(problem, rollouts);
      problem.score_reference(rollouts);
      const auto fresh = experiment.calibration.fresh
                             ? std::optional(fresh_calibration(run, problem, rollouts.prompts, step))
                             : std::nullopt;
      std::vector<double> coefficient;
      for (std::size_t p = 0; p < rollouts.prompts.size(); ++p) {
        const auto own_part = [&](const auto& of_batch) {
          return of_batch.empty() ? std::span(of_batch) : std::span(of_batch).subspan(p * count, count);
        };
        const auto prompt = rollouts.prompts[p];
        const PromptSamples samples{
            fresh ? *fresh : calibration,
            fresh ? static_cast<std::int64_t>(p) : prompt,
            own_part(rollouts.reward),
            own_part(rollouts.selecting()),
            own_part(rollouts.answer),
            subset_seed(experiment.seed, problem.prompt_id(Split::kTrain, prompt), step)};
        std::vector<double> calibrated, log_ratio, advantage(count);
        for (const float reward : samples.reward)
          calibrated.push_back(samples.calibration(samples.row, reward));  // calibrate
        const auto reward_seen = transformed_reward(samples, calibrated);  // transform
        for (std::size_t s = 0; s < count; ++s) {
          const auto i = p * count + s;
          log_ratio.push_back(rollouts.log_ratio(i));
          records.push_back({samples.reward[s], calibrated[s], reward_seen[s], log_ratio[s],
                             static_cast<double>(rollouts.response(i).tokens.size())});
        }
        alignment::leave_one_out_advantages(reward_seen, log_ratio, beta(), advantage);  // reinforce
        for (const double a : advantage) coefficient.push_back(-a / samples_per_step);
        if (training_win_rate.known()) win_rates.push_back(training_win_rate(samples));
      }
      gap = std::max(gap, problem.accumulate_gradient(rollouts, coefficient, training.gradient(),
                                                      training.complete_from()));
      training.optimizer().end_micro_batch(static_cast<std::int64_t>(batches.size()));
    }
    run.ranks.all_reduce_max(std::span(&gap, 1));
    if (const double most = experiment.max_sampler_trainer_gap(); gap > most)
      throw std::runtime_error(
          "sampler and trainer disagree by " + std::to_string(gap) +
          " nats on the log-probability of a token (alignment.max_sampler_trainer_gap is " +
          std::to_string(most) + ")");
    const auto step_means = means(gather(run, records));
    const auto all_win_rates = gather(run, win_rates);
    step_kl = step_means.mean.log_ratio;

    StepReport report;
    report.metrics = {{"tokens", static_cast<std::int64_t>(step_means.tokens)},
                      {"reward", step_means.mean.reward},
                      {"calibrated_reward", step_means.mean.calibrated_reward},
                      {"transformed_reward", step_means.mean.transformed_reward},
                      {"kl", step_kl},
                      {"kl_k3", step_means.kl_k3},
                      {"beta", beta()},
                      {"loss", beta() * step_kl - step_means.mean.transformed_reward},
                      {"sampler_trainer_gap", gap},
                      {"response_length", step_means.mean.length}};
    char note[80];
    std::snprintf(note, sizeof note, "kl %.3f, C %.3f", step_kl, step_means.mean.calibrated_reward);
    report.note = note;
    if (!all_win_rates.empty()) {
      const double win_rate = std::accumulate(all_win_rates.begin(), all_win_rates.end(), 0.0) /
                              static_cast<double>(all_win_rates.size());
      report.metrics["inference_win_rate"] = win_rate;
      std::snprintf(note, sizeof note, "kl %.3f, win rate %.3f", step_kl, win_rate);
      report.note = note;
    }
    return report;
  };
  training.run(step_gradients, [&](std::int64_t) {
    if (!variant.beta) controller.observe(step_kl);
    training.state()["kl_controller"] = to_text(controller.state());
    const double value = beta();
    training.state()["beta"] = to_text(std::span(&value, 1));
  });
}

storage::CheckpointReader open_aligned(const Run& run, Problem& problem, const experiment::Variant& variant) {
  const auto folder = run.experiment.checkpoint_folder(variant.name);
  const auto checkpoints = storage::list_checkpoints(folder);
  if (checkpoints.empty()) throw InputError(folder.string() + ": no checkpoint; run the align stage first");
  storage::CheckpointReader reader(checkpoints.back());
  const auto& state = reader.info().state;
  const auto fingerprint = state.find("fingerprint");
  if (fingerprint == state.end() || fingerprint->second != alignment_fingerprint(run, problem, variant) ||
      reader.info().step != run.experiment.alignment.steps)
    throw InputError(checkpoints.back().string() +
                     ": not the finished policy of this configuration; run the align stage first");
  problem.choose_policies(variant);
  return reader;
}

double load_aligned(const Run& run, Problem& problem, const experiment::Variant& variant) {
  const auto reader = open_aligned(run, problem, variant);
  problem.load_policy([&](distributed::Interval interval, std::span<float> values) {
    reader.read("model", problem.tensors(), {interval.begin, interval.end}, values);
  });
  return from_text(reader.info().state.at("beta")).at(0);
}

void align(Run& run) {
  const auto made = make_problem(run);
  Problem& problem = *made;
  const auto calibration = load_calibration(run, problem);
  for (const auto& variant : run.experiment.alignment.variants)
    align_variant(run, problem, calibration, variant);
}

}  // namespace infalign::stages
