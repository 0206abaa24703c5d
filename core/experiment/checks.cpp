#include "core/experiment/checks.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>

#include "core/alignment/transform.h"
#include "core/experiment/environment.h"
#include "core/experiment/schema.h"

namespace infalign::experiment {
namespace {

namespace fs = std::filesystem;

#ifdef INFALIGN_CUDA
constexpr bool kHasCuda = true;
#else
constexpr bool kHasCuda = false;
#endif

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

std::string in_words(const std::vector<Stage>& stages) {
  std::string text;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == stages.size() ? " and " : ", ") + stage_name(stages[i]);
  }
  return text;
}

class Checker {
 public:
  Checker(const Experiment& experiment, const Node& document, Problems& problems)
      : e_(experiment), document_(document), problems_(problems) {}

  void run() {
    check_stages();
    check_device();
    if (sound({"stages"})) {
      check_models();
      check_trained_models();
      check_prompts();
      check_calibration();
    }
    check_sampling();
    check_inference();
    check_batches();
    check_variants();
    check_optimizers();
  }

 private:
  void refuse(const std::string& path, const std::string& message) {
    problems_.add(place_of(document_, path), path, message);
  }
  void warn(const std::string& path, const std::string& message) {
    problems_.warn(place_of(document_, path), path, message);
  }
  bool sound(std::initializer_list<std::string> paths) const {
    return std::ranges::all_of(paths, [&](const std::string& path) { return problems_.sound(path); });
  }

  /// Those of `candidates` that this run goes through.
  std::vector<Stage> running(std::initializer_list<Stage> candidates) const {
    std::vector<Stage> stages;
    for (const Stage stage : candidates) {
      if (e_.runs(stage)) stages.push_back(stage);
    }
    return stages;
  }

  /// Refuses that `path` is not given while any of `stages` runs.
  void need(const std::string& path, bool given, std::initializer_list<Stage> stages,
            const std::string& remedy) {
    const std::vector<Stage> needing = running(stages);
    if (given || needing.empty() || !sound({path})) return;
    refuse(path, "missing, but needed to " + in_words(needing) + "; " + remedy);
  }

  /// "; set NAME to ..." if the path was written with a variable.
  std::string variable_hint(const std::string& path) const {
    const Node* node = find_path(document_, path);
    if (node == nullptr) return "";
    const std::vector<std::string> variables = expand_environment(node->text).variables;
    if (variables.empty()) return "";
    const char* value = std::getenv(variables.front().c_str());
    const bool given = value != nullptr && *value != '\0';
    std::string hint = "; set " + variables.front() + " to the folder that holds it";
    if (!given) return hint + " (it is not set)";
    hint += std::string(" (it is ") + value;
    if (fs::path(value).is_relative())
      hint += ", which counts from the configuration's folder: better absolute";
    return hint + ")";
  }

  void expect_file(const std::string& path, const fs::path& file) {
    if (file.empty() || !sound({path})) return;
    std::error_code ignored;
    if (!fs::exists(file, ignored)) {
      refuse(path, "there is no file " + file.string() + variable_hint(path));
    } else if (fs::is_directory(file, ignored)) {
      refuse(path, file.string() + " is a folder; name a file");
    }
  }

  void expect_model(const std::string& path, const fs::path& folder) {
    if (folder.empty() || !sound({path})) return;
    std::error_code ignored;
    if (!fs::exists(folder, ignored)) {
      refuse(path, "there is no folder " + folder.string() + variable_hint(path));
    } else if (!fs::exists(folder / "config.json", ignored)) {
      refuse(path, folder.string() + " is not a Hugging Face model folder: it has no config.json");
    }
  }

  void check_stages() {
    if (!sound({"stages"})) return;
    if (e_.stages.empty())
      return refuse("stages", "names no stage; known, in their order: " + in_words(all_stages()));
    for (std::size_t i = 1; i < e_.stages.size(); ++i) {
      const Stage before = e_.stages[i - 1], after = e_.stages[i];
      if (before == after) return refuse("stages", stage_name(after) + " is named twice");
      if (before > after) {
        return refuse("stages", stage_name(after) + " comes before " + stage_name(before) +
                                    "; the order is " + in_words(all_stages()));
      }
    }
  }

  void check_device() {
    if (!kHasCuda && e_.device == "cuda" && sound({"device"})) {
      refuse("device", "this build has no CUDA back end; use cpu or auto");
    }
    if (e_.distributed.sharding != 1 && sound({"distributed.sharding"})) {
      refuse("distributed.sharding", "only stage 1 so far (optimizer state); use 1");
    }
  }

  void check_models() {
    expect_model("model.reference", e_.model.reference);
    if (sound({"finetune"})) {
      need("model.reference", !e_.policy_start().empty(),
           {Stage::kCalibrate, Stage::kAlign, Stage::kEvaluate, Stage::kExport}, "name a model folder");
    }
    check_reward_model("reward", e_.model.reward, e_.reward.has_value(), e_.reward_folder());
    check_reward_model("judge", e_.model.judge, e_.judge.has_value(), e_.judge_folder());
  }

  /// A reward model comes from a folder that is there, or from the reward stage of this run or an earlier
  /// one.
  void check_reward_model(const std::string& name, const fs::path& given, bool trained,
                          const fs::path& folder) {
    const std::string path = "model." + name;
    if (!sound({path})) return;
    if (trained && e_.runs(Stage::kReward)) return;
    if (!given.empty()) {
      expect_model(path, given);
      if (trained) warn(name, "has no effect: " + path + " is given and stages does not name reward");
    } else if (trained) {
      std::error_code ignored;
      if (!running({Stage::kCalibrate, Stage::kAlign, Stage::kEvaluate}).empty() &&
          !fs::exists(folder, ignored)) {
        refuse(name, folder.string() + " has not been trained yet; name reward in stages");
      }
    } else if (name == "reward") {
      need(path, false, {Stage::kCalibrate, Stage::kAlign, Stage::kEvaluate},
           "name a folder with a score head, or add a reward section and the reward stage");
    }
  }

  void check_trained_models() {
    if (e_.finetune) check_finetune(*e_.finetune);
    if (e_.reward) check_preferences("reward", *e_.reward);
    if (e_.judge) check_preferences("judge", *e_.judge);
    need("finetune", e_.finetune.has_value(), {Stage::kFinetune}, "add the section");
    need("reward", e_.reward || e_.judge, {Stage::kReward}, "add the section");
  }

  void check_finetune(const Finetune& finetune) {
    expect_file("finetune.text", finetune.text);
    expect_model("finetune.initial", finetune.initial);
    if (!e_.runs(Stage::kFinetune)) return warn("finetune", "has no effect: stages does not name finetune");
    if (sound({"finetune.from_scratch", "model.reference"})) {
      need("finetune.initial", !finetune.initial.empty(), {Stage::kFinetune},
           "name the folder whose config.json and tokenizer are used");
    }
  }

  void check_preferences(const std::string& name, const Reward& reward) {
    expect_file(name + ".preferences", reward.preferences);
    expect_model(name + ".backbone", reward.backbone);
    if (sound({"model.reference", "finetune"})) {
      need(name + ".backbone", !e_.backbone(reward).empty(), {Stage::kReward},
           "name a model folder, here or as model.reference");
    }
  }

  void check_prompts() {
    expect_file("prompts.train", e_.prompts.train);
    expect_file("prompts.heldout", e_.prompts.heldout);
    need("prompts.train", !e_.prompts.train.empty(), {Stage::kCalibrate, Stage::kAlign},
         "name a file of JSON lines {\"prompt\": ...}");
    need("prompts.heldout", !e_.prompts.heldout.empty(), {Stage::kEvaluate},
         "name a file of JSON lines {\"prompt\": ...}");
  }

  void check_calibration() {
    expect_file("calibration.reuse", e_.calibration.reuse);
    if (!e_.runs(Stage::kAlign) || e_.runs(Stage::kCalibrate) || !e_.calibration.reuse.empty()) return;
    std::error_code ignored;
    if (sound({"output", "calibration.reuse"}) && !fs::exists(e_.calibration_path(), ignored)) {
      refuse("stages", "align needs a calibration; name calibrate before it, or set calibration.reuse");
    }
  }

  void check_sampling() {
    if (e_.sampling.top_p == 1 || !sound({"sampling.top_p", "stages"})) return;
    const std::string top_p = short_number(e_.sampling.top_p);
    if (e_.runs(Stage::kAlign)) {
      refuse(
          "sampling.top_p",
          "with " + top_p +
              " the sampler would no longer be the policy whose KL divergence is measured (the "
              "estimate can even turn negative); align with 1, and cut the tail in production if you like");
    } else if (e_.runs(Stage::kEvaluate)) {
      warn("sampling.top_p", "with " + top_p + " the measured KL divergence is not that of the sampler");
    }
  }

  void check_inference() {
    const std::string& procedure = e_.inference.procedure;
    const std::string n = std::to_string(e_.inference.n);
    if (!sound({"inference.procedure", "inference.n"})) return;
    if (procedure == "standard" && e_.inference.n != 1) {
      refuse("inference.n",
             "the standard procedure draws one answer, not " + n + "; use 1, or name a procedure");
    } else if (procedure != "standard" && e_.inference.n < 2) {
      refuse("inference.n",
             procedure + " of " + n + " is ordinary sampling; use 2 or more, or procedure: standard");
    } else if (e_.runs(Stage::kEvaluate) && e_.evaluation.samples_per_prompt < e_.inference.n &&
               sound({"evaluation.samples_per_prompt"})) {
      refuse("evaluation.samples_per_prompt", std::to_string(e_.evaluation.samples_per_prompt) +
                                                  " samples hold no " + procedure + " of " + n +
                                                  " (inference.n); use " + n + " or more");
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
    if ((procedure == "worst_of_n" && exponent > 0) || (procedure == "best_of_n" && exponent < 0)) {
      refuse(path, short_number(exponent) + " rewards the wrong end for " + procedure + "; use " +
                       short_number(-exponent) + ", or 0 to have it chosen");
      return;
    }
    // The table resolves C to 1/K, and exp(tC) lives on a scale of 1/t (method, section 2: K of the order of
    // t^2).
    const double t = exponent, rollouts = static_cast<double>(e_.calibration.rollouts_per_prompt);
    if (sound({"calibration.rollouts_per_prompt"}) && rollouts < t * t / 4) {
      warn("calibration.rollouts_per_prompt",
           short_number(rollouts) + " are few for an exponential transform with exponent " + short_number(t) +
               "; about " + short_number(t * t) + " are right");
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

  const Experiment& e_;
  const Node& document_;
  Problems& problems_;
};

}  // namespace

void check(const Experiment& experiment, const Node& document, Problems& problems) {
  Checker(experiment, document, problems).run();
}

}  // namespace infalign::experiment
