#include "core/stages/evaluate.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "core/alignment/estimators.h"
#include "core/alignment/reinforce.h"
#include "core/alignment/theory.h"
#include "core/alignment/transform.h"
#include "core/error.h"
#include "core/experiment/deployment.h"
#include "core/stages/align.h"
#include "core/stages/calibrate.h"
#include "core/stages/progress.h"
#include "core/stages/result_table.h"
#include "core/stages/transformed_reward.h"
#include "core/storage/durable.h"

namespace infalign::stages {
namespace {

OrderedJson interval_json(const alignment::Interval95& interval) {
  return {{"value", interval.value}, {"low", interval.low}, {"high", interval.high}};
}

OrderedJson mean_json(const std::vector<double>& per_prompt) {
  return interval_json(alignment::bootstrap_mean(per_prompt));
}

/// The mean over each prompt's M values of f(value).
template <class T, class F>
std::vector<double> per_prompt_mean(const std::vector<T>& values, std::size_t M, F f) {
  std::vector<double> means;
  for (std::size_t begin = 0; begin < values.size(); begin += M) {
    double sum = 0;
    for (std::size_t i = begin; i < begin + M; ++i) sum += f(static_cast<double>(values[i]));
    means.push_back(sum / static_cast<double>(M));
  }
  return means;
}

std::vector<double> win_rates(const alignment::Deployment& deployment, const PolicySamples& policy,
                              const PolicySamples& reference, std::size_t M, Decides who) {
  std::vector<double> rates;
  for (std::size_t p = 0; p * M < policy.reward.size(); ++p)
    rates.push_back(
        alignment::win_rate(deployment, policy.scored(p, M, who), reference.scored(p, M, who), p));
  return rates;
}

std::vector<double> answer_rewards(const alignment::Deployment& deployment, const PolicySamples& policy,
                                   std::size_t M) {
  std::vector<double> rewards;
  for (std::size_t p = 0; p * M < policy.reward.size(); ++p)
    rewards.push_back(alignment::answer_reward(deployment, policy.scored(p, M, Decides::kJudge), p));
  return rewards;
}

OrderedJson paired_difference(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> difference(a.size());
  std::transform(a.begin(), a.end(), b.begin(), difference.begin(), std::minus<>());
  return mean_json(difference);
}

alignment::TransformAt transform_at(const experiment::Variant& variant, std::int64_t rollouts,
                                    const alignment::Deployment& deployment) {
  return [settings = transform_settings(variant, rollouts), deployment](double beta) {
    return alignment::make_transform(settings, deployment, beta);
  };
}

/// Closed-form win rate against KL of the transforms to be drawn.
OrderedJson curves(const experiment::Experiment& experiment, double largest_kl) {
  const auto deployment = experiment::deployment(experiment.inference);
  OrderedJson curves = OrderedJson::array();
  if (!deployment.is_calibrated()) return curves;
  const double exponent = (experiment.inference.procedure == "worst_of_n" ? -2.5 : 2.5) *
                          static_cast<double>(deployment.policy_candidates());
  constexpr int kPoints = 24;
  for (const std::string name : {"identity", "log", "exponential", "optimal"}) {
    experiment::Variant drawn;
    drawn.transform = name;
    drawn.exponent = exponent;
    const auto at = transform_at(drawn, 0, deployment);
    OrderedJson points = OrderedJson::array();
    for (int i = 1; i <= kPoints; ++i) {
      const double kl = largest_kl * i * i / (kPoints * kPoints);
      try {
        const auto predicted = alignment::predict_at_kl(at, deployment, kl);
        points.push_back({{"kl", kl},
                          {"standard_win_rate", predicted.standard_win_rate},
                          {"inference_win_rate", predicted.inference_win_rate}});
      } catch (const std::runtime_error&) {
        break;  // beyond the KL that this transform can reach
      }
    }
    curves.push_back({{"transform", name},
                      {"exponent", name == "exponential" ? OrderedJson(exponent) : OrderedJson(nullptr)},
                      {"points", points}});
  }
  return curves;
}

/// Is C uniform under pi_ref? Calibrated rewards of fresh reference samples of the first training prompts.
OrderedJson calibration_check(Run& run, Problem& problem, const alignment::Calibration& calibration) {
  std::vector<std::int64_t> prompts(
      static_cast<std::size_t>(std::min(kCalibrationCheckPrompts, calibration.prompts())));
  std::iota(prompts.begin(), prompts.end(), 0);
  const auto batches = micro_batches(prompts, run.experiment.distributed.micro_batch_prompts);
  const auto own = own_micro_batches(run, static_cast<std::int64_t>(batches.size()));
  std::vector<double> ranks;
  for (auto b = own.begin; b < own.end; ++b) {
    auto rollouts = problem.sample(Answerer::kReference, Split::kTrain, batches[static_cast<std::size_t>(b)],
                                   run.experiment.evaluation.samples_per_prompt,
                                   {run.experiment.seed, kernels::Purpose::kEvaluationReference});
    problem.score(rollouts, false);
    for (std::size_t i = 0; i < rollouts.size(); ++i)
      ranks.push_back(
          calibration(rollouts.prompts[i / static_cast<std::size_t>(rollouts.samples)], rollouts.reward[i]));
  }
  const auto all = gather(run, ranks);
  return {{"mode", run.experiment.calibration.mode},
          {"prompts", calibration.prompts()},
          {"rollouts", calibration.rollouts()},
          {"uniformity_distance", alignment::uniformity_distance(all)},
          {"heldout_ranks", all}};
}

/// How much of the reward the judge shares: the mean over prompts of their rank correlation on the
/// reference's answers. What training gains by the reward can be seen by the judge to this extent only.
OrderedJson judge_agreement(const PolicySamples& reference, std::size_t M) {
  std::vector<double> correlation;
  for (std::size_t first = 0; first < reference.judge_reward.size(); first += M) {
    const double of_prompt = alignment::rank_correlation(std::span(reference.reward).subspan(first, M),
                                                         std::span(reference.judge_reward).subspan(first, M));
    if (std::isfinite(of_prompt)) correlation.push_back(of_prompt);  // else all answers are level for one
  }
  return correlation.empty() ? OrderedJson(nullptr) : mean_json(correlation);
}

/// Texts of each rank's share, in order, on all ranks.
std::vector<std::string> gather_texts(const Run& run, const std::vector<std::string>& mine) {
  const auto packed = json_text(Json(mine));
  std::vector<std::string> all;
  for (const auto& bytes : run.ranks.all_gather_bytes(std::as_bytes(std::span(packed)))) {
    const auto* text = reinterpret_cast<const char*>(bytes.data());
    for (auto& item : parse_json({text, bytes.size()})) all.push_back(item);
  }
  return all;
}

}  // namespace

PolicySamples sample_answerer(Run& run, Problem& problem, Answerer answerer, kernels::Purpose purpose) {
  const auto& experiment = run.experiment;
  const auto M = experiment.evaluation.samples_per_prompt;
  const auto deployment = experiment::deployment(experiment.inference);
  const auto& shown = std::max_element(deployment.matchups().begin(), deployment.matchups().end(),
                                       [](const auto& a, const auto& b) { return a.policy.n < b.policy.n; })
                          ->policy;
  const auto candidates = static_cast<std::size_t>(std::min(M, shown.n));
  std::vector<std::int64_t> prompts(static_cast<std::size_t>(problem.prompt_count(Split::kHeldout)));
  std::iota(prompts.begin(), prompts.end(), 0);
  const auto batches = micro_batches(prompts, experiment.distributed.micro_batch_prompts);
  const auto own = own_micro_batches(run, static_cast<std::int64_t>(batches.size()));
  PolicySamples mine;
  for (auto b = own.begin; b < own.end; ++b) {
    auto rollouts = problem.sample(answerer, Split::kHeldout, batches[static_cast<std::size_t>(b)], M,
                                   {experiment.seed, purpose});
    problem.score(rollouts, true);
    require_finite_rewards(problem, rollouts);
    problem.score_reference(rollouts);
    const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    append(mine.reward, rollouts.reward);
    append(mine.judge_reward, rollouts.judge_reward);
    append(mine.reranker_reward, rollouts.reranker_reward);
    append(mine.answer, rollouts.answer);
    for (std::size_t i = 0; i < rollouts.size(); ++i) {
      mine.log_ratio.push_back(rollouts.log_ratio(i));
      mine.length.push_back(static_cast<double>(rollouts.response(i).tokens.size()));
    }
    for (std::size_t p = 0;
         p < rollouts.prompts.size() && rollouts.prompts[p] < experiment.evaluation.examples; ++p) {
      const auto first = p * static_cast<std::size_t>(M);
      const auto some = [&](const auto& of_batch) {
        return of_batch.empty() ? std::span(of_batch) : std::span(of_batch).subspan(first, candidates);
      };
      const auto chosen = shown.select({some(rollouts.selecting()), some(rollouts.answer)});
      mine.example.push_back(problem.response_text(rollouts.responses[p][chosen]));
      mine.example_reward.push_back(rollouts.reward[first + chosen]);
    }
  }
  PolicySamples all;
  all.reward = gather(run, mine.reward);
  all.judge_reward = gather(run, mine.judge_reward);
  all.reranker_reward = gather(run, mine.reranker_reward);
  all.answer = gather(run, mine.answer);
  all.log_ratio = gather(run, mine.log_ratio);
  all.length = gather(run, mine.length);
  all.example = gather_texts(run, mine.example);
  all.example_reward = gather(run, mine.example_reward);
  return all;
}

OrderedJson evaluate_variant(const Run& run, const experiment::Variant& variant, double beta,
                             const PolicySamples& policy, const PolicySamples& reference,
                             const std::vector<const PolicySamples*>& previous) {
  const auto& experiment = run.experiment;
  const auto M = static_cast<std::size_t>(experiment.evaluation.samples_per_prompt);
  const auto deployment = experiment::deployment(experiment.inference);
  const alignment::Deployment standard(alignment::make_procedure("standard", 1));
  const auto same = [](double x) { return x; };
  const auto inference_rates = win_rates(deployment, policy, reference, M, Decides::kJudge);
  const auto standard_rates = win_rates(standard, policy, reference, M, Decides::kJudge);
  const auto kl = alignment::bootstrap_mean(per_prompt_mean(policy.log_ratio, M, alignment::kl_k1));

  OrderedJson entry{{"name", variant.name},
                    {"transform", variant.transform},
                    {"exponent", variant.exponent},
                    {"beta", beta},
                    {"target_kl", variant.target_kl ? OrderedJson(*variant.target_kl) : OrderedJson(nullptr)},
                    {"steps", experiment.alignment.steps},
                    {"kl", interval_json(kl)},
                    {"kl_k3", mean_json(per_prompt_mean(policy.log_ratio, M, alignment::kl_k3))},
                    {"standard_win_rate", mean_json(standard_rates)},
                    {"inference_win_rate", mean_json(inference_rates)},
                    {"inference_reward", mean_json(answer_rewards(deployment, policy, M))},
                    {"reference_inference_reward", mean_json(answer_rewards(deployment, reference, M))}};
  entry["predicted"] = nullptr;  // raw and z-scored rewards have no closed form, nor has a KL of zero
  // Leave-one-out rewards have the expectation of the optimal transform.
  auto theory = variant;
  if (variant.transform == "leave_one_out" && experiment.inference.value == "win_rate")
    theory.transform = "optimal";
  const bool closed = alignment::is_calibrated(alignment::transform_kind(theory.transform));
  if (closed && deployment.is_calibrated() && kl.value > 1e-3) {
    try {
      const auto predicted = alignment::predict_at_kl(
          transform_at(theory, experiment.calibration.rollouts_per_prompt, deployment), deployment, kl.value);
      entry["predicted"] = {{"kl", kl.value},
                            {"standard_win_rate", predicted.standard_win_rate},
                            {"inference_win_rate", predicted.inference_win_rate}};
    } catch (const std::runtime_error&) {
      // This transform cannot reach the measured KL at any beta.
    }
  }
  entry["reward"] = mean_json(per_prompt_mean(policy.reward, M, same));
  entry["reference_reward"] = mean_json(per_prompt_mean(reference.reward, M, same));
  entry["response_length"] = mean_json(per_prompt_mean(policy.length, M, same));
  const auto difference_to = [&](const PolicySamples& other) {
    return OrderedJson{
        {"inference_win_rate",
         paired_difference(inference_rates, win_rates(deployment, other, reference, M, Decides::kJudge))},
        {"standard_win_rate",
         paired_difference(standard_rates, win_rates(standard, other, reference, M, Decides::kJudge))}};
  };
  if (!policy.judge_reward.empty()) {
    // The same wins decided by the reward that was trained on: what training reached, before judging.
    const auto by_reward = win_rates(deployment, policy, reference, M, Decides::kReward);
    entry["by_reward"] = {
        {"standard_win_rate", mean_json(win_rates(standard, policy, reference, M, Decides::kReward))},
        {"inference_win_rate", mean_json(by_reward)}};
    if (!previous.empty())
      entry["by_reward"]["difference_to_previous"] = paired_difference(
          by_reward, win_rates(deployment, *previous.back(), reference, M, Decides::kReward));
  }
  if (!previous.empty()) {
    entry["difference_to_first"] = difference_to(*previous.front());
    entry["difference_to_previous"] = difference_to(*previous.back());
  }
  return entry;
}

void evaluate(Run& run) {
  const auto& experiment = run.experiment;
  const auto made = make_problem(run);
  Problem& problem = *made;
  const auto calibration = load_calibration(run, problem);
  storage::Fingerprint fingerprint;
  fingerprint.add(problem.reward_fingerprint())
      .add(std::to_string(experiment.evaluation.samples_per_prompt))
      .add(std::to_string(experiment.evaluation.examples));
  fingerprint.add(prompts_fingerprint(problem, Split::kHeldout));
  for (const auto& variant : experiment.alignment.variants)
    fingerprint.add(variant.name).add(alignment_fingerprint(run, problem, variant));
  const auto path = experiment.evaluation_path();
  if (run.is_done("evaluate", fingerprint.hex(), path)) {
    log_line(run, "evaluate: done before, kept");
    return;
  }

  const auto& variants = experiment.alignment.variants;
  Progress progress("evaluate", static_cast<std::int64_t>(variants.size()) + 1, run.root() && run.progress);
  const auto reference =
      sample_answerer(run, problem, Answerer::kReference, kernels::Purpose::kEvaluationReference);
  progress.update(1);
  std::vector<PolicySamples> policies;
  std::vector<const PolicySamples*> previous;
  policies.reserve(variants.size());
  OrderedJson entries = OrderedJson::array();
  double largest_kl = 1;
  for (const auto& variant : variants) {
    run.at("stage evaluate (variant " + variant.name + ")");
    const double beta = load_aligned(run, problem, variant);
    policies.push_back(sample_answerer(run, problem, Answerer::kPolicy, kernels::Purpose::kEvaluationPolicy));
    entries.push_back(evaluate_variant(run, variant, beta, policies.back(), reference, previous));
    previous.push_back(&policies.back());
    largest_kl = std::max(largest_kl, 1.5 * entries.back()["kl"]["value"].get<double>());
    progress.update(static_cast<std::int64_t>(policies.size()) + 1);
    if (run.stop_requested() && policies.size() < variants.size())
      throw Stopped("stopped on request in the evaluation, which will be done anew; start again to go on");
  }
  progress.finish("");

  OrderedJson examples = OrderedJson::array();
  for (std::size_t e = 0; e < reference.example.size(); ++e) {
    OrderedJson answers = OrderedJson::array();
    for (std::size_t v = 0; v < variants.size(); ++v)
      answers.push_back({{"variant", variants[v].name},
                         {"text", policies[v].example[e]},
                         {"reward", policies[v].example_reward[e]}});
    examples.push_back(
        {{"prompt", problem.prompt_text(Split::kHeldout, static_cast<std::int64_t>(e))},
         {"reference", {{"text", reference.example[e]}, {"reward", reference.example_reward[e]}}},
         {"answers", answers}});
  }
  const OrderedJson evaluation{
      {"format_version", 1},
      {"procedure", experiment.inference.procedure},
      {"n", experiment.inference.n},
      {"value", experiment.inference.value},
      {"deployment", experiment::deployment(experiment.inference).name()},
      {"prompts", problem.prompt_count(Split::kHeldout)},
      {"samples_per_prompt", experiment.evaluation.samples_per_prompt},
      {"judge", experiment.judge_source().empty() ? "reward" : "judge"},
      {"judge_agreement",
       judge_agreement(reference, static_cast<std::size_t>(experiment.evaluation.samples_per_prompt))},
      {"variants", entries},
      {"calibration", calibration_check(run, problem, calibration)},
      {"curves", curves(experiment, largest_kl)},
      {"examples", examples}};
  if (run.root()) storage::write_file_durably(path, json_text(evaluation, 1) + "\n");
  run.mark_done("evaluate", fingerprint.hex());
}

}  // namespace infalign::stages
