#include "core/experiment/experiment.h"

#include <algorithm>

namespace infalign::experiment {

std::string stage_name(Stage stage) {
  switch (stage) {
    case Stage::kFinetune:
      return "finetune";
    case Stage::kReward:
      return "reward";
    case Stage::kCalibrate:
      return "calibrate";
    case Stage::kAlign:
      return "align";
    case Stage::kEvaluate:
      return "evaluate";
    case Stage::kReport:
      return "report";
    case Stage::kExport:
      return "export";
  }
  return "";
}

const std::vector<Stage>& all_stages() {
  static const std::vector<Stage> kStages = {Stage::kFinetune, Stage::kReward,   Stage::kCalibrate,
                                             Stage::kAlign,    Stage::kEvaluate, Stage::kReport,
                                             Stage::kExport};
  return kStages;
}

bool Experiment::runs(Stage stage) const { return std::ranges::find(stages, stage) != stages.end(); }

std::filesystem::path Experiment::finetuned_folder() const { return output / "models" / "finetuned"; }

std::filesystem::path Experiment::policy_start() const {
  return finetune && runs(Stage::kFinetune) ? finetuned_folder() : model.reference;
}

std::filesystem::path Experiment::backbone(const Reward& trained) const {
  return trained.backbone.empty() ? policy_start() : trained.backbone;
}

std::filesystem::path Experiment::reward_folder() const {
  return model.reward.models.empty() ? output / "models" / "reward" : model.reward.models.front();
}

std::filesystem::path Experiment::judge_folder() const {
  if (!model.judge.models.empty()) return model.judge.models.front();
  return judge ? output / "models" / "judge" : std::filesystem::path();
}

RewardChoice Experiment::reward_source() const {
  return model.reward.empty() ? RewardChoice{.models = {reward_folder()}} : model.reward;
}

RewardChoice Experiment::judge_source() const {
  const bool trained = model.judge.empty() && judge;
  return trained ? RewardChoice{.models = {judge_folder()}} : model.judge;
}

std::filesystem::path Experiment::calibration_path() const { return output / "calibration.h5"; }

std::filesystem::path Experiment::checkpoint_folder(const std::string& variant) const {
  return output / "checkpoints" / variant;
}

std::filesystem::path Experiment::policy_folder(const std::string& variant) const {
  return output / "policies" / variant;
}

std::filesystem::path Experiment::metrics_path() const { return output / "metrics.jsonl"; }

std::filesystem::path Experiment::evaluation_path() const { return output / "evaluation.json"; }

std::filesystem::path Experiment::report_path() const { return output / "report.html"; }

}  // namespace infalign::experiment
