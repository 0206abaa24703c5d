// The configurations that come with the project are right as they stand.
#include <algorithm>

#include "core/experiment/experiment_fixture.h"

namespace infalign::experiment {
namespace {

using testing::ElementsAre;

const std::filesystem::path kSource = INFALIGN_SOURCE_DIR;

std::filesystem::path data_folder() {
  const char* given = std::getenv("INFALIGN_DATA");
  return given != nullptr && *given != '\0' ? std::filesystem::path(given)
                                            : kSource / ".." / "shared" / "data";
}

std::vector<std::string> names(const Experiment& e) {
  std::vector<std::string> names;
  for (const Variant& variant : e.alignment.variants) names.push_back(variant.name);
  return names;
}

TEST(Configs, Quickstart) {
  if (!std::filesystem::exists(kSource / "data" / "storyteller" / "config.json")) {
    GTEST_SKIP() << "data/storyteller is not there";
  }
  const Experiment e = load_experiment(kSource / "configs" / "quickstart.yaml");
  EXPECT_THAT(e.warnings, ElementsAre());
  EXPECT_THAT(names(e), ElementsAre("raw", "calibrated", "infalign"));
  EXPECT_EQ(e.output, (kSource / "runs" / "quickstart").lexically_normal());
}

TEST(Configs, Stories) {
  if (!std::filesystem::exists(data_folder() / "stories260K-hf")) {
    GTEST_SKIP() << "set INFALIGN_DATA to the folder with stories260K-hf, goemotions and tinystories";
  }
  const Experiment best = load_experiment(kSource / "configs" / "stories.yaml");
  EXPECT_THAT(best.warnings, ElementsAre());
  EXPECT_EQ(best.inference.procedure, "best_of_n");
  ASSERT_TRUE(best.reward && best.judge);
  EXPECT_NE(best.reward->part, best.judge->part);

  Experiment worst = load_experiment(kSource / "configs" / "stories-worst-of-n.yaml");
  EXPECT_THAT(worst.warnings, ElementsAre());
  EXPECT_EQ(worst.inference.procedure, "worst_of_n");
  EXPECT_EQ(names(worst), names(best));
  EXPECT_EQ(worst.prompts, best.prompts) << "one calibration serves both";
  EXPECT_EQ(worst.sampling, best.sampling);
  EXPECT_EQ(worst.calibration, best.calibration);
  EXPECT_EQ(worst.reward, best.reward);
  EXPECT_EQ(worst.judge, best.judge);
}

/// Reads the four configurations of HH-RLHF with a folder in the place of the model and of Anthropic's
/// release.
class HhConfigs : public ExperimentTest {
 protected:
  void SetUp() override {
    ExperimentTest::SetUp();
    for (const char* task : {"helpful-base", "harmless-base"}) {
      for (const char* part : {"train", "test"})
        write(std::filesystem::path(task) / (std::string(part) + ".jsonl.gz"), "");
      write(std::filesystem::path("hh-rlhf") / (std::string(task) + ".test.jsonl.gz"), "");
    }
  }

  static Experiment config(const std::string& name) { return load_experiment(kSource / "configs" / name); }

  const ScopedVariable model_{"INFALIGN_SMOLLM2", (folder_ / "model").c_str()};
  const ScopedVariable release_{"INFALIGN_HH", folder_.c_str()};
  const ScopedVariable data_{"INFALIGN_DATA", folder_.c_str()};
};

TEST_F(HhConfigs, JudgeByTheOtherHalfAndHoldOutPrompts) {
  for (const char* name :
       {"hh-helpful.yaml", "hh-helpful-small.yaml", "hh-harmless.yaml", "hh-harmless-small.yaml"}) {
    SCOPED_TRACE(name);
    const Experiment e = config(name);
    EXPECT_THAT(e.warnings, ElementsAre());
    EXPECT_EQ(e.inference.n, 4);
    ASSERT_TRUE(e.reward && e.judge);
    EXPECT_EQ(e.reward->part, "first_half");
    EXPECT_EQ(e.judge->part, "second_half");
    EXPECT_NE(e.reward->seed_offset, e.judge->seed_offset);
    EXPECT_TRUE(e.prompts.holds_out());
    if (e.prompts.heldout_fraction > 0) {
      EXPECT_EQ(e.prompts.heldout_fraction, e.reward->heldout_fraction) << "no reward model has seen them";
      EXPECT_EQ(e.prompts.heldout_fraction, e.judge->heldout_fraction);
    }
  }
}

TEST_F(HhConfigs, DifferInTaskAndProcedureAlone) {
  for (const std::string size : {"", "-small"}) {
    const Experiment helpful = config("hh-helpful" + size + ".yaml");
    Experiment harmless = config("hh-harmless" + size + ".yaml");
    EXPECT_EQ(helpful.inference.procedure, "best_of_n");
    EXPECT_EQ(harmless.inference.procedure, "worst_of_n");
    EXPECT_EQ(helpful.reward->optimizer, harmless.reward->optimizer);
    EXPECT_EQ(helpful.sampling, harmless.sampling);
    EXPECT_EQ(helpful.calibration, harmless.calibration);
    EXPECT_EQ(helpful.alignment, harmless.alignment);
    EXPECT_EQ(helpful.evaluation, harmless.evaluation);
  }
}

}  // namespace
}  // namespace infalign::experiment
