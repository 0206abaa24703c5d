#include "core/stages/report/run_folder.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace infalign::stages {
namespace {

using testing::ElementsAre;
using testing::Pair;

class RunFolderTest : public testing::Test {
 protected:
  RunFolderTest()
      : folder_(std::filesystem::temp_directory_path() /
                ("infalign_run_folder_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~RunFolderTest() override { std::filesystem::remove_all(folder_); }
  RunFolder read(const std::string& metrics) {
    std::ofstream(folder_ / "metrics.jsonl") << metrics;
    return read_run_folder(folder_);
  }
  std::filesystem::path folder_;
};

TEST_F(RunFolderTest, StepDoneTwiceStandsOnceAsDoneLast) {
  const RunFolder run = read(R"({"stage":"align","variant":"raw","step":1,"kl":0.1}
{"stage":"align","variant":"raw","step":2,"kl":0.9}
{"stage":"align","variant":"raw","step":2,"kl":0.2}
)");
  ASSERT_NE(run.find("align", "raw"), nullptr);
  EXPECT_THAT(run.find("align", "raw")->series("kl"), ElementsAre(Pair(1, 0.1), Pair(2, 0.2)));
}

TEST_F(RunFolderTest, HalfALineIsCountedAndLeftOut) {
  const RunFolder run =
      read("{\"stage\":\"align\",\"variant\":\"raw\",\"step\":1,\"kl\":0.1}\n{\"stage\":\"ali");
  EXPECT_EQ(run.unreadable_lines, 1);
  EXPECT_EQ(run.training.size(), 1u);
}

TEST_F(RunFolderTest, MissingNumbersLeaveGaps) {
  const RunFolder run = read(R"({"stage":"align","variant":"raw","step":1,"kl":null}
{"stage":"align","variant":"raw","step":2,"kl":0.2}
)");
  EXPECT_THAT(run.find("align", "raw")->series("kl"), ElementsAre(Pair(2, 0.2)));
}

TEST_F(RunFolderTest, VariantsAreApart) {
  const RunFolder run = read(R"({"stage":"align","variant":"raw","step":1,"kl":0.1}
{"stage":"align","variant":"infalign","step":1,"kl":0.2}
)");
  EXPECT_THAT(run.find("align", "infalign")->series("kl"), ElementsAre(Pair(1, 0.2)));
  EXPECT_EQ(run.find("reward"), nullptr);
}

TEST_F(RunFolderTest, ReadsHowWellTheRewardModelLearned) {
  std::ofstream(folder_ / "reward.json") << R"({"training_pairs": 360, "heldout_pairs": 40,
    "heldout_accuracy": 0.925, "heldout_accuracy_low": 0.80, "heldout_accuracy_high": 0.97})";
  const RunFolder run = read("");
  ASSERT_EQ(run.preference_accuracy.size(), 1u);
  EXPECT_EQ(run.preference_accuracy[0].model, "reward");
  EXPECT_EQ(run.preference_accuracy[0].training_pairs, 360);
  EXPECT_EQ(run.preference_accuracy[0].heldout_pairs, 40);
  EXPECT_EQ(run.preference_accuracy[0].heldout_accuracy.value, 0.925);
  EXPECT_EQ(run.preference_accuracy[0].heldout_accuracy.low, 0.80);
  EXPECT_EQ(run.preference_accuracy[0].heldout_accuracy.high, 0.97);
}

TEST_F(RunFolderTest, NameComesFromTheConfigurationElseTheFolder) {
  EXPECT_EQ(read("").name, folder_.filename().string());
  std::ofstream(folder_ / "experiment.yaml") << "seed: 1\nname: \"my run\"\nmodel:\n  name: other\n";
  EXPECT_EQ(read("").name, "my run");
}

}  // namespace
}  // namespace infalign::stages
