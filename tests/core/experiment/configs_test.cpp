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

}  // namespace
}  // namespace infalign::experiment
