// How values fit each other: batches into micro-batches, transforms to procedures, targets to calibration.
#include <cctype>
#include <stdexcept>
#include <vector>

#include "core/alignment/transform.h"
#include "core/experiment/checks.h"
#include "core/experiment/deployment.h"
#include "core/experiment/schema.h"

namespace infalign::experiment {
namespace {

/// Above this a learning rate of AdamW is a slip of the pen.
constexpr double kLargestLearningRate = 0.1;
/// File systems allow 255 bytes; checkpoints add suffixes.
constexpr std::size_t kLongestName = 100;

bool is_folder_name(const std::string& name) {
  const auto is_safe = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
  };
  return !name.empty() && name.size() <= kLongestName && name[0] != '.' && name[0] != '-' &&
         std::ranges::all_of(name, is_safe);
}

class ValueChecker : Checker {
 public:
  using Checker::Checker;

  void run() {
    check_device();
    check_sampling();
    check_inference();
    check_calibration();
    check_sharding();
    check_batches();
    check_variants();
    check_optimizers();
    check_export();
    check_memory();
    check_checkpoints();
  }

 private:
  void check_device() {
    if (e_.device != "cuda" || !sound({"device"})) return;
    if (e_.synthetic) refuse("device", "tables are computed on the CPU; use cpu or auto");
  }

  void check_sharding() {
    const std::int64_t ranks = e_.distributed.shard_ranks;
    if (ranks == 0 || !sound({"distributed.sharding", "distributed.shard_ranks"})) return;
    if (e_.distributed.sharding < 3)
      refuse("distributed.shard_ranks", "parameters are divided among ranks only in sharding: 3, not in " +
                                            std::to_string(e_.distributed.sharding));
    else if (ranks == 1)
      refuse("distributed.shard_ranks",
             "one rank alone has nothing to divide; use sharding: 2, or 2 or more");
  }

  void check_checkpoints() {
    const std::int64_t every = e_.checkpoint.every, keep_every = e_.checkpoint.keep_every;
    if (!sound({"checkpoint.every", "checkpoint.keep_every"}) || keep_every % every == 0) return;
    refuse("checkpoint.keep_every", std::to_string(keep_every) + " is not a multiple of checkpoint.every (" +
                                        std::to_string(every) + "); use 0, or " +
                                        std::to_string((keep_every / every + 1) * every));
  }

  void check_sampling() {
    if (e_.sampling.top_p == 1 || !sound({"sampling.top_p", "stages"})) return;
    const std::string top_p = short_number(e_.sampling.top_p);
    if (e_.runs(Stage::kAlign)) {
      refuse("sampling.top_p",
             "with " + top_p +
                 " the sampler would no longer be the policy whose KL divergence is measured (the estimate "
                 "can even turn negative); align with 1, and cut the tail in production if you like");
    } else if (e_.runs(Stage::kEvaluate)) {
      warn("sampling.top_p", "with " + top_p + " the measured KL divergence is not that of the sampler");
    }
  }

  void check_inference() {
    if (!sound({"inference"})) return;
    check_procedure("inference", e_.inference);
    if (e_.inference.opponent) check_procedure("inference.opponent", *e_.inference.opponent);
    for (std::size_t i = 0; i < e_.inference.mixture.size(); ++i)
      check_procedure("inference.mixture." + std::to_string(i), e_.inference.mixture[i]);
    if (!sound({"inference"})) return;

    const alignment::Deployment deployment = experiment::deployment(e_.inference);
    const std::int64_t most = deployment.candidates(), samples = e_.evaluation.samples_per_prompt;
    if (e_.runs(Stage::kEvaluate) && samples < most && sound({"evaluation.samples_per_prompt"})) {
      refuse("evaluation.samples_per_prompt", std::to_string(samples) + " samples hold no " +
                                                  deployment.name() + " (inference.n); use " +
                                                  std::to_string(most) + " or more");
    }
    check_votes(deployment);
  }

  /// What make_procedure refuses, and numbers of candidates that can hardly be meant.
  void check_procedure(const std::string& path, const ProcedureChoice& choice) {
    Inference alone;
    static_cast<ProcedureChoice&>(alone) = choice;
    const std::string n = std::to_string(choice.n), &name = choice.procedure;
    const bool derives_n = name == "soft_best_of_n" || name == "best_of_random_n";
    if (name == "standard" && choice.n != 1) {
      return refuse(path + ".n",
                    "the standard procedure draws one answer, not " + n + "; use 1, or name a procedure");
    }
    if (name != "standard" && choice.n < 2 && !derives_n) {
      return refuse(path + ".n",
                    name + " of " + n + " is ordinary sampling; use 2 or more, or procedure: standard");
    }
    try {
      deployment(alone);
    } catch (const std::invalid_argument& error) {
      refuse(path, error.what());
    }
  }

  /// Votes need answers on both sides; the opponent's side of a win rate in training has rewards alone.
  void check_votes(const alignment::Deployment& deployment) {
    const bool has_answers = !e_.inference.answer.empty() || (e_.synthetic && e_.synthetic->answers > 0);
    for (const alignment::Matchup& matchup : deployment.matchups()) {
      const bool votes = matchup.policy.reads_answers || matchup.opponent.reads_answers;
      if (votes && !has_answers) {
        return refuse("inference.answer",
                      "missing: " + (matchup.policy.reads_answers ? matchup.policy : matchup.opponent).name +
                          " needs a regular expression that finds the answer");
      }
      const bool by_wins = matchup.policy.value == alignment::Value::kWinRate;
      if (e_.runs(Stage::kAlign) && by_wins && matchup.opponent.reads_answers) {
        return refuse("inference.opponent",
                      "a win against " + matchup.opponent.name +
                          " cannot be told from calibrated rewards alone; use "
                          "`value: reward`, or another opponent such as {procedure: standard}");
      }
    }
  }

  void check_calibration() {
    if (e_.calibration.fresh && e_.calibration.mode != "prompt" && sound({"calibration"})) {
      refuse("calibration.fresh",
             "new rollouts at each visit are ranked within their prompt; use mode: prompt");
    }
  }

  void check_batches() {
    const std::int64_t prompts = e_.alignment.prompts_per_step, unit = e_.distributed.micro_batch_prompts;
    if (!sound({"alignment.prompts_per_step", "distributed.micro_batch_prompts", "stages"})) return;
    if (!e_.runs(Stage::kAlign) || prompts % unit == 0) return;
    const std::int64_t below = prompts / unit * unit;
    refuse("alignment.prompts_per_step",
           std::to_string(prompts) + " is not a multiple of distributed.micro_batch_prompts (" +
               std::to_string(unit) + "); use " + (below > 0 ? std::to_string(below) + " or " : "") +
               std::to_string(below + unit));
  }

  /// Where a variant's value was written: in its own entry, or in the section it inherits from.
  std::string variant_path(std::size_t i, const std::string& key) const {
    const std::string own = "alignment.variants." + std::to_string(i) + (key.empty() ? "" : "." + key);
    return find_path(document_, own) != nullptr ? own : "alignment" + (key.empty() ? "" : "." + key);
  }

  void check_variants() {
    if (!sound({"alignment", "alignment.variants"})) return;
    const std::vector<Variant>& variants = e_.alignment.variants;
    for (std::size_t i = 0; i < variants.size(); ++i) {
      check_name(i);
      check_exponent(i);
      check_transform(i);
      check_kl(i);
    }
  }

  void check_name(std::size_t i) {
    const std::vector<Variant>& variants = e_.alignment.variants;
    const std::string path = variant_path(i, "name");
    if (!sound({path})) return;
    const std::string& name = variants[i].name;
    if (!is_folder_name(name)) {
      refuse(path, "`" + name + "` cannot name a folder; use letters, digits, `_`, `-` and `.`, at most " +
                       std::to_string(kLongestName));
    }
    const auto end = variants.begin() + static_cast<std::ptrdiff_t>(i);
    const auto twin = std::find_if(variants.begin(), end, [&](const Variant& v) { return v.name == name; });
    if (twin != end) {
      refuse("alignment.variants." + std::to_string(i), "is named `" + name + "` like variant " +
                                                            std::to_string(twin - variants.begin()) +
                                                            "; give each a name of its own");
    }
  }

  void check_exponent(std::size_t i) {
    const Variant& variant = e_.alignment.variants[i];
    const std::string path = variant_path(i, "exponent");
    if (variant.transform != "exponential") return;
    if (!sound({path, variant_path(i, "transform"), "inference"})) return;
    const std::string& procedure = e_.inference.procedure;
    const double exponent = variant.exponent;
    const bool alone = !e_.inference.opponent && e_.inference.mixture.empty();
    if (alone &&
        ((procedure == "worst_of_n" && exponent > 0) || (procedure == "best_of_n" && exponent < 0))) {
      refuse(path, short_number(exponent) + " rewards the wrong end for " + procedure + "; use " +
                       short_number(-exponent) + ", or 0 to have it chosen");
      return;
    }
    // C is known to about 0.3 / sqrt(K), and exp(tC) changes within 1 / t: K has to be of the order of t^2.
    const double t = exponent, rollouts = static_cast<double>(e_.calibration.rollouts_per_prompt);
    if (sound({"calibration.rollouts_per_prompt"}) && rollouts < t * t / 4) {
      warn("calibration.rollouts_per_prompt",
           short_number(rollouts) + " are few for an exponential transform with exponent " + short_number(t) +
               "; about " + short_number(t * t) + " are right");
    }
  }

  /// Transforms that the deployment does not have, or that need more samples.
  void check_transform(std::size_t i) {
    const Variant& variant = e_.alignment.variants[i];
    const std::string path = variant_path(i, "transform");
    if (!e_.runs(Stage::kAlign) || !sound({path, "inference"})) return;
    const alignment::Deployment deployment = experiment::deployment(e_.inference);
    const bool from_ranks = variant.transform == "optimal" || variant.transform == "power";
    if (from_ranks && !deployment.is_calibrated()) {
      refuse(path, "the choice of " + deployment.name() + " does not follow from ranks, so " +
                       variant.transform + " is not known; use leave_one_out");
    }
    if (from_ranks && e_.inference.value == "reward") {
      refuse(path, variant.transform + " is for win rates; with value: reward use leave_one_out");
    }
    const std::int64_t needed = deployment.policy_candidates() + 1, samples = e_.alignment.samples_per_prompt;
    if (variant.transform == "leave_one_out" && samples < needed && sound({"alignment.samples_per_prompt"})) {
      refuse("alignment.samples_per_prompt", "leave_one_out with " + deployment.name() + " needs " +
                                                 std::to_string(needed) + " or more, not " +
                                                 std::to_string(samples));
    }
    if (variant.transform == "points") {
      alignment::TransformSettings settings;
      settings.kind = alignment::TransformKind::kPoints;
      settings.points = variant.points;
      try {
        alignment::make_transform(settings, deployment, 1);
      } catch (const std::invalid_argument& error) {
        refuse(variant_path(i, "points"), error.what());
      }
    }
  }

  void check_kl(std::size_t i) {
    const Variant& variant = e_.alignment.variants[i];
    const std::string beta = variant_path(i, "beta"), target = variant_path(i, "target_kl");
    if (!sound({beta, target, "stages"})) return;
    if (e_.runs(Stage::kAlign) && !variant.beta && !variant.target_kl) {
      refuse(variant_path(i, ""),
             "needs beta (a fixed weight of the KL) or target_kl (nats, beta then follows)");
    }
    if (!variant.target_kl || !sound({"calibration"})) return;
    double largest = 0;  // the harmonic number H_K
    for (std::int64_t k = 1; k <= std::min<std::int64_t>(e_.calibration.rollouts_per_prompt, 1 << 20); ++k) {
      largest += 1.0 / static_cast<double>(k);
    }
    if (*variant.target_kl > largest &&
        alignment::is_calibrated(alignment::transform_kind(variant.transform))) {
      warn(target, short_number(*variant.target_kl) + " nats are more than " +
                       std::to_string(e_.calibration.rollouts_per_prompt) +
                       " rollouts per prompt can tell apart; add rollouts or aim lower");
    }
  }

  void check_memory() {
    const bool narrow = e_.memory.policy == "bfloat16";
    if (e_.memory.stochastic_rounding && !narrow && sound({"memory.stochastic_rounding", "memory.policy"}))
      warn("memory.stochastic_rounding", "has no effect: no model is read in bfloat16 (memory.policy)");
    if (narrow && e_.memory.reference == "float32" && sound({"memory.policy", "memory.reference"}))
      warn("memory.policy",
           "the policy starts rounded to bfloat16 and the reference is not, so that their KL does not start "
           "at "
           "0 unless the files are in bfloat16; hold both in it (memory.reference)");
  }

  void check_export() {
    const bool adapted =
        std::ranges::any_of(e_.alignment.variants, [](const Variant& v) { return v.lora.enabled(); });
    if (e_.exported.lora == "adapter" && !adapted && sound({"export.lora", "alignment"}))
      warn("export.lora", "has no effect: no policy is an adapter (alignment.lora.rank)");
  }

  void check_optimizers() {
    if (e_.finetune && e_.runs(Stage::kFinetune)) {
      check_optimizer("finetune.learning_rate", "finetune.warmup_steps", e_.finetune->optimizer,
                      e_.finetune->steps);
    }
    if (e_.runs(Stage::kReward)) {
      if (e_.reward) check_optimizer("reward.learning_rate", "", e_.reward->optimizer, 0);
      if (e_.judge) check_optimizer("judge.learning_rate", "", e_.judge->optimizer, 0);
    }
    for (std::size_t i = 0; e_.runs(Stage::kAlign) && i < e_.alignment.variants.size(); ++i) {
      check_optimizer(variant_path(i, "learning_rate"), variant_path(i, "warmup_steps"),
                      e_.alignment.variants[i].optimizer, e_.alignment.steps);
    }
  }

  /// `steps` 0: not known before the data are read.
  void check_optimizer(const std::string& rate_path, const std::string& warmup_path,
                       const OptimizerSettings& optimizer, std::int64_t steps) {
    if (sound({rate_path})) {
      if (optimizer.learning_rate == 0) warn(rate_path, "with 0 nothing is learned");
      if (optimizer.learning_rate > kLargestLearningRate) {
        warn(rate_path, short_number(optimizer.learning_rate) + " is unusually large for AdamW");
      }
    }
    if (steps > 0 && optimizer.warmup_steps >= steps && sound({warmup_path})) {
      warn(warmup_path, std::to_string(optimizer.warmup_steps) + " of " + std::to_string(steps) +
                            " steps are warm-up: the full learning rate is never reached");
    }
  }
};

}  // namespace

void check_values(const Experiment& experiment, const Node& document, Problems& problems) {
  ValueChecker(experiment, document, problems).run();
}

}  // namespace infalign::experiment
