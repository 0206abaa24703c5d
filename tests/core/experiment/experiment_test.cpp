// Where a run finds and leaves its files.
#include "core/experiment/experiment.h"

#include <gtest/gtest.h>

namespace infalign::experiment {
namespace {

Experiment at_out() {
  Experiment e;
  e.output = "/out";
  e.model.reference = "/model";
  return e;
}

TEST(Locations, EverythingStandsInOutput) {
  const Experiment e = at_out();
  EXPECT_EQ(e.calibration_path(), "/out/calibration.h5");
  EXPECT_EQ(e.checkpoint_folder("a"), "/out/checkpoints/a");
  EXPECT_EQ(e.policy_folder("a"), "/out/policies/a");
  EXPECT_EQ(e.metrics_path(), "/out/metrics.jsonl");
  EXPECT_EQ(e.evaluation_path(), "/out/evaluation.json");
  EXPECT_EQ(e.report_path(), "/out/report.html");
}

TEST(Locations, RewardAndJudgeAreGivenOrMade) {
  Experiment e = at_out();
  EXPECT_EQ(e.reward_folder(), "/out/models/reward");
  EXPECT_EQ(e.judge_folder(), "") << "the reward model judges";
  e.judge.emplace();
  EXPECT_EQ(e.judge_folder(), "/out/models/judge");
  e.model.reward.models = {"/critic"};
  e.model.judge.models = {"/judge"};
  EXPECT_EQ(e.reward_folder(), "/critic");
  EXPECT_EQ(e.judge_folder(), "/judge");
}

TEST(Locations, RewardsComeFromWhatIsGivenOrElseTrained) {
  using Folders = std::vector<std::filesystem::path>;
  Experiment e = at_out();
  EXPECT_EQ(e.reward_source().models, Folders{"/out/models/reward"});
  EXPECT_TRUE(e.judge_source().empty()) << "the reward model judges";
  e.judge.emplace();
  EXPECT_EQ(e.judge_source().models, Folders{"/out/models/judge"});
  e.model.reward.command = {"program"};
  e.model.judge.models = {"/a", "/b"};
  EXPECT_EQ(e.reward_source(), e.model.reward);
  EXPECT_EQ(e.judge_source(), e.model.judge);
}

TEST(Locations, ThePolicyStartsFromTheFinetunedModelOnlyIfThisRunMakesIt) {
  Experiment e = at_out();
  EXPECT_EQ(e.policy_start(), "/model");
  e.finetune.emplace();
  EXPECT_EQ(e.policy_start(), "/model");
  e.stages = {Stage::kFinetune};
  EXPECT_EQ(e.policy_start(), "/out/models/finetuned");
  EXPECT_EQ(e.backbone(Reward{}), "/out/models/finetuned");
  Reward own;
  own.backbone = "/own";
  EXPECT_EQ(e.backbone(own), "/own");
}

}  // namespace
}  // namespace infalign::experiment
