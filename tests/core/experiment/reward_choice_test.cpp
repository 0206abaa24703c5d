// Where rewards come from, as a configuration says it: a path, a list, models that are combined, a program.
#include <sys/stat.h>

#include "core/experiment/experiment_fixture.h"

namespace infalign::experiment {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class RewardChoiceTest : public ExperimentTest {
 protected:
  void SetUp() override {
    ExperimentTest::SetUp();
    write("other/config.json", "{}");
    write("rule.py", "");
  }

  RewardChoice reward(const std::string& value) const {
    return load(good(), {"model.reward=" + value}).model.reward;
  }
  std::string refused(const std::string& value) const { return refusal(good(), {"model.reward=" + value}); }
  std::vector<std::string> warnings(const std::string& value) const {
    return load(good(), {"model.reward=" + value}).warnings;
  }
  std::string in_folder(const std::string& name) const { return (folder_ / name).string(); }
};

TEST_F(RewardChoiceTest, APathStandsForAModel) {
  const RewardChoice choice = load(good()).model.reward;
  EXPECT_EQ(choice, RewardChoice{.models = {folder_ / "critic"}});
  EXPECT_EQ(reward("{models: critic}"), choice);
  EXPECT_TRUE(load(good()).model.judge.empty());
}

TEST_F(RewardChoiceTest, AListStandsForModelsThatAreCombined) {
  EXPECT_EQ(reward("[critic, other/]"), (RewardChoice{.models = {folder_ / "critic", folder_ / "other"}}));
  const RewardChoice choice = reward("{models: [critic, other], combine: lower_bound, kappa: 2}");
  EXPECT_THAT(choice.models, ElementsAre(folder_ / "critic", folder_ / "other"));
  EXPECT_EQ(choice.combine, "lower_bound");
  EXPECT_EQ(choice.kappa, 2);
}

TEST_F(RewardChoiceTest, OfACommandWhatNamesAFileBecomesAbsolute) {
  write("tools/sh", "");
  write("words", "");
  const RewardChoice choice =
      reward("{command: [sh, rule.py, other, ./other, words, --x=rule.py, ''], restarts: 5}");
  EXPECT_THAT(choice.command, ElementsAre("sh", in_folder("rule.py"), "other", in_folder("other"),
                                          in_folder("words"), "--x=rule.py", ""))
      << "a folder only with a slash, since a word may well be the name of one";
  EXPECT_EQ(choice.restarts, 5);
  EXPECT_TRUE(choice.models.empty());
}

TEST_F(RewardChoiceTest, EachIsRefusedWithItsPlace) {
  EXPECT_EQ(refused("[critic, later]"), "--set model.reward: model.reward.1: there is no folder later");
  EXPECT_EQ(refused("{models: [later, critic]}"),
            "--set model.reward: model.reward.models.0: there is no folder later");
  EXPECT_EQ(refused("[]"), "--set model.reward: expected path or list of paths; found an empty list");
  EXPECT_EQ(refused("[critic, '']"),
            "--set model.reward: expected path or list of paths; found an empty path");
  EXPECT_EQ(refused("[critic, [other]]"),
            "--set model.reward: expected path or list of paths; item 1 is a list");
  EXPECT_EQ(refused("{}"), "--set model.reward: names nothing that gives rewards; add models or command");
  EXPECT_EQ(refused("{kappa: 2}"),
            "--set model.reward: names nothing that gives rewards; add models or command");
  EXPECT_EQ(refused("{models: critic, command: [sh]}"),
            "--set model.reward: model.reward.command: models is given too; keep one of them, or set the "
            "other to null");
  EXPECT_EQ(refused("{models: [critic, other], combine: median}"),
            "--set model.reward: model.reward.combine: expected one of mean, minimum, lower_bound; found "
            "`median`");
  EXPECT_EQ(refused("{comand: [sh]}"),
            "--set model.reward: model.reward.comand: unknown key; did you mean command?");
  EXPECT_THAT(refused("{models: [critic, other], kappa: -1}"), HasSubstr("number, at least 0; found `-1`"));
  EXPECT_THAT(refused("{command: [sh], timeout: 0}"), HasSubstr("number, above 0; found `0`"));
  EXPECT_THAT(refusal(good("judge: {preferences: pairs.jsonl}\n"), {"model.judge=[critic, later]"}),
              HasSubstr("model.judge.1: there is no folder later"));
  EXPECT_THAT(refusal(good(), {"model.reranker={command: [no-such-program]}"}),
              HasSubstr("model.reranker.command: there is no program no-such-program in PATH"));
}

TEST_F(RewardChoiceTest, ACommandIsOneThatCanBeStarted) {
  EXPECT_EQ(refused("{command: []}"),
            "--set model.reward: model.reward.command: expected a program and its arguments, such as "
            "[python3, reward.py]; found an empty list");
  EXPECT_THAT(refused("{command: sh}"), HasSubstr("expected list of texts; found `sh`"));
  EXPECT_EQ(refused("{command: [rule.py]}"),
            "--set model.reward: model.reward.command: there is no program rule.py in PATH; one that is not "
            "there is named by its path, with a /");
  EXPECT_EQ(refused("{command: [./lost]}"),
            "--set model.reward: model.reward.command: there is no program lost");
  EXPECT_THAT(refused("{command: [./other]}"), HasSubstr("other is not executable"));
  EXPECT_THAT(
      refused("{command: [./rule.py]}"),
      HasSubstr("rule.py is not executable; make it so (chmod +x), or name its interpreter before it"));
  chmod(in_folder("rule.py").c_str(), 0755);
  EXPECT_THAT(reward("{command: [./rule.py]}").command, ElementsAre(in_folder("rule.py")));
}

TEST_F(RewardChoiceTest, WarnsOfWhatHasNoEffect) {
  EXPECT_THAT(warnings("[critic, other]"), ElementsAre());
  EXPECT_THAT(warnings("{command: [sh, rule.py, a b/c, 'http://x/y', -I/x]}"), ElementsAre());
  EXPECT_THAT(
      warnings("{command: [sh, ./lost.py]}"),
      ElementsAre("--set model.reward: model.reward.command.1: there is no file ./lost.py; it is passed "
                  "on as it is"));
  EXPECT_THAT(warnings("{models: critic, combine: minimum}"), ElementsAre(HasSubstr("it is one model")));
  EXPECT_THAT(warnings("{command: [sh], combine: minimum}"),
              ElementsAre(HasSubstr("a command gives one reward")));
  EXPECT_THAT(warnings("{models: [critic, other], kappa: 3}"),
              ElementsAre(HasSubstr("model.reward.kappa: has no effect")));
  EXPECT_THAT(warnings("{models: critic, restarts: 3}"), ElementsAre(HasSubstr("they belong to command")));
  EXPECT_THAT(warnings("{command: [sh], read_at: stop_token}"),
              ElementsAre(HasSubstr("it belongs to models")));
  EXPECT_THAT(warnings("{models: critic, read_at: stop_token}"), ElementsAre());
}

TEST_F(RewardChoiceTest, TheRewardStageWritesOneFolder) {
  const std::string yaml = good("reward: {preferences: pairs.jsonl}\n");
  const std::string all = "stages=[reward, calibrate, align, evaluate]";
  EXPECT_EQ(
      refusal(yaml, {all, "model.reward=[critic, other]"}),
      "--set model.reward: the reward stage trains one model, and would not know where to write it; leave "
      "the reward section out, or name one folder");
  EXPECT_THAT(refusal(yaml, {all, "model.reward={command: [sh]}"}),
              HasSubstr("the reward stage trains one model"));
  EXPECT_EQ(load(yaml, {all, "model.reward=later"}).reward_folder(), folder_ / "later");
}

TEST_F(RewardChoiceTest, TheResolvedFileUsesTheShortFormWhereItSaysAll) {
  EXPECT_THAT(load(good()).yaml,
              AllOf(HasSubstr("  reward: " + in_folder("critic") + "\n"), HasSubstr("  judge: null\n")));
  EXPECT_THAT(load(good(), {"model.reward={command: [sh, rule.py]}"}).yaml,
              AllOf(HasSubstr("  reward:\n    models: null\n"),
                    HasSubstr("    command: [sh, " + in_folder("rule.py") + "]\n")));
  EXPECT_THAT(load(good(), {"model.reward=[critic, other]"}).yaml, HasSubstr("  reward:\n    models: ["));
}

}  // namespace
}  // namespace infalign::experiment
