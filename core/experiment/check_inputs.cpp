// Which files and sections a run needs depends on its stages, and on what they make for each other.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <vector>

#include "core/experiment/checks.h"
#include "core/experiment/environment.h"

namespace infalign::experiment {
namespace {

namespace fs = std::filesystem;

std::string in_words(const std::vector<Stage>& stages) {
  std::string text;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == stages.size() ? " and " : ", ") + stage_name(stages[i]);
  }
  return text;
}

/// What keeps `program` from being started, or "".
std::string program_problem(const std::string& program) {
  std::error_code ignored;
  const auto is_executable = [&](const fs::path& file) {
    return fs::is_regular_file(file, ignored) && access(file.c_str(), X_OK) == 0;
  };
  if (program.find('/') != std::string::npos) {
    if (!fs::exists(program, ignored)) return "there is no program " + program;
    if (is_executable(program)) return "";
    return program + " is not executable; make it so (chmod +x), or name its interpreter before it";
  }
  const char* path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');)
    if (is_executable(fs::path(folder) / program)) return "";
  return "there is no program " + program + " in PATH; one that is not there is named by its path, with a /";
}

/// Looks like the path of a file, which is not there.
bool is_lost_path(const std::string& argument) {
  std::error_code ignored;
  return argument.find('/') != std::string::npos && argument.find("://") == std::string::npos &&
         argument.find(' ') == std::string::npos && !argument.starts_with('-') &&
         !fs::exists(argument, ignored);
}

class InputChecker : Checker {
 public:
  using Checker::Checker;

  void run() {
    check_stages();
    if (!sound({"stages"})) return;
    if (e_.synthetic) {
      check_synthetic();
    } else {
      check_models();
      check_chat_template();
      check_trained_models();
      check_prompts();
    }
    check_calibration();
  }

 private:
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
    } else if (!fs::exists(folder / "config.json", ignored) &&
               !fs::exists(folder / "adapter_config.json", ignored)) {
      refuse(path, folder.string() +
                       " is not a Hugging Face model folder: it has no config.json, nor the "
                       "adapter_config.json of an adapter");
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

  void check_models() {
    expect_model("model.reference", e_.model.reference);
    if (sound({"finetune"})) {
      need("model.reference", !e_.policy_start().empty(),
           {Stage::kCalibrate, Stage::kAlign, Stage::kEvaluate, Stage::kExport}, "name a model folder");
    }
    check_rewards("reward", e_.model.reward, e_.reward.has_value(), e_.reward_folder());
    check_rewards("judge", e_.model.judge, e_.judge.has_value(), e_.judge_folder());
    check_rewards("reranker", e_.model.reranker, false, "");
  }

  /// Rewards come from where `given` says, or from the reward stage of this run or an earlier one.
  void check_rewards(const std::string& name, const RewardChoice& given, bool trained,
                     const fs::path& folder) {
    const std::string path = "model." + name;
    if (!sound({path})) return;
    if (trained && e_.runs(Stage::kReward)) {
      if (given.models.size() > 1 || !given.command.empty())
        refuse(path, "the reward stage trains one model, and would not know where to write it; leave the " +
                         name + " section out, or name one folder");
      return;
    }
    if (!sound({path + ".models", path + ".command"})) return;
    const Node* written = find_path(document_, path);
    if (given.empty() && written != nullptr && written->kind == Node::Kind::kMap)
      return refuse(path, "names nothing that gives rewards; add models or command");
    if (!given.empty()) {
      check_choice(path, given);
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

  void check_choice(const std::string& path, const RewardChoice& given) {
    const RewardChoice defaults;
    for (std::size_t i = 0; i < given.models.size(); ++i) expect_model(model_path(path, i), given.models[i]);
    const bool combines = given.combine != defaults.combine || given.kappa != defaults.kappa;
    if (given.models.size() < 2 && combines)
      warn(path, "there is nothing to combine: " +
                     std::string(given.models.empty() ? "a command gives one reward" : "it is one model"));
    if (given.combine != "lower_bound" && given.kappa != defaults.kappa && given.models.size() > 1)
      warn(path + ".kappa", "has no effect: it belongs to combine: lower_bound");
    if (given.command.empty()) {
      if (given.timeout != defaults.timeout || given.restarts != defaults.restarts)
        warn(path, "timeout and restarts have no effect: they belong to command");
      return;
    }
    const std::string problem = program_problem(given.command.front());
    if (!problem.empty()) return refuse(path + ".command", problem);
    if (given.read_at != defaults.read_at) warn(path + ".read_at", "has no effect: it belongs to models");
    for (std::size_t i = 1; i < given.command.size(); ++i)
      if (is_lost_path(given.command[i]))
        warn(path + ".command." + std::to_string(i),
             "there is no file " + given.command[i] + "; it is passed on as it is");
  }

  /// Where the i-th model was written: as a value or list in the section's place, or below `models`.
  std::string model_path(const std::string& path, std::size_t i) const {
    const std::string models = find_path(document_, path + ".models") ? path + ".models" : path;
    const std::string item = models + "." + std::to_string(i);
    return find_path(document_, item) != nullptr ? item : models;
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

  void check_chat_template() {
    const fs::path choice = e_.model.chat_template;
    if (choice.extension() == ".jinja") expect_file("model.chat_template", choice);
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
    if (!e_.prompts.heldout.empty() && e_.prompts.heldout_fraction > 0 &&
        sound({"prompts.heldout", "prompts.heldout_fraction"})) {
      refuse("prompts.heldout_fraction", "prompts.heldout says already what is held out; keep one of them");
    }
    need("prompts.heldout", e_.prompts.holds_out(), {Stage::kEvaluate},
         "name a file of JSON lines {\"prompt\": ...}, or set heldout_fraction");
  }

  /// Tables are calibrated, aligned and evaluated; there is nothing to fine-tune or to export.
  void check_synthetic() {
    for (const Stage stage : {Stage::kFinetune, Stage::kReward, Stage::kExport}) {
      if (e_.runs(stage))
        refuse("stages", stage_name(stage) + " needs a model, and synthetic has none; leave it out");
    }
    if (!e_.model.reference.empty()) refuse("model.reference", "synthetic takes its place; keep one of them");
    for (const Variant& variant : e_.alignment.variants)
      if (variant.lora.enabled() && sound({"alignment.lora.rank"}))
        return refuse("alignment.lora.rank", "needs a model, and synthetic has none; use 0");
    if (!e_.prompts.train.empty()) refuse("prompts.train", "synthetic takes its place; keep one of them");
  }

  void check_calibration() {
    expect_file("calibration.reuse", e_.calibration.reuse);
    if (!e_.runs(Stage::kAlign) || e_.runs(Stage::kCalibrate) || !e_.calibration.reuse.empty()) return;
    std::error_code ignored;
    if (sound({"output", "calibration.reuse"}) && !fs::exists(e_.calibration_path(), ignored)) {
      refuse("stages", "align needs a calibration; name calibrate before it, or set calibration.reuse");
    }
  }
};

}  // namespace

void check_inputs(const Experiment& experiment, const Node& document, Problems& problems) {
  InputChecker(experiment, document, problems).run();
}

}  // namespace infalign::experiment
