// What stages need and what is absent; how values fit each other.
#include "core/alignment/transform.h"
#include "core/experiment/experiment_fixture.h"

namespace infalign::experiment {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class Checks : public ExperimentTest {
 protected:
  std::vector<std::string> warnings(const std::string& yaml,
                                    const std::vector<std::string>& overrides = {}) const {
    std::vector<std::string> lines = load(yaml, overrides).warnings;
    for (std::string& line : lines) {
      if (line.starts_with(file().string())) line.erase(0, folder_.string().size() + 1);
    }
    return lines;
  }
};

TEST_F(Checks, PromptsFillMicroBatches) {
  EXPECT_EQ(refusal(good(), {"alignment.prompts_per_step=30"}),
            "--set alignment.prompts_per_step: 30 is not a multiple of distributed.micro_batch_prompts (4); "
            "use 28 or "
            "32");
  EXPECT_EQ(
      refusal(good(), {"alignment.prompts_per_step=3"}),
      "--set alignment.prompts_per_step: 3 is not a multiple of distributed.micro_batch_prompts (4); use 4");
  EXPECT_EQ(
      refusal(good(), {"distributed.micro_batch_prompts=5"}),
      "run.yaml:14: alignment.prompts_per_step: 32 is not a multiple of distributed.micro_batch_prompts (5); "
      "use 30 or 35");
}

TEST_F(Checks, CheckpointsKeptForGoodAreAmongThoseWritten) {
  EXPECT_EQ(refusal(good(), {"checkpoint.every=20", "checkpoint.keep_every=50"}),
            "--set checkpoint.keep_every: 50 is not a multiple of checkpoint.every (20); use 0, or 60");
}

TEST_F(Checks, SampleCountsHaveTheirLeast) {
  EXPECT_THAT(refusal(good(), {"alignment.samples_per_prompt=1"}),
              HasSubstr("whole number, at least 2; found `1`"));
  EXPECT_THAT(refusal(good(), {"calibration.rollouts_per_prompt=1"}), HasSubstr("at least 2; found `1`"));
  EXPECT_EQ(
      refusal(good(), {"evaluation.samples_per_prompt=3"}),
      "--set evaluation.samples_per_prompt: 3 samples hold no best_of_n 4 (inference.n); use 4 or more");
}

TEST_F(Checks, TheProcedureAndItsNAgree) {
  EXPECT_EQ(
      refusal(good(), {"inference.procedure=standard"}),
      "run.yaml:8: inference.n: the standard procedure draws one answer, not 4; use 1, or name a procedure");
  EXPECT_EQ(refusal(good(), {"inference.n=1"}),
            "--set inference.n: best_of_n of 1 is ordinary sampling; use 2 or more, or procedure: standard");
  EXPECT_THAT(
      refusal(good(), {"inference.procedure=best_of"}),
      AllOf(HasSubstr("--set inference.procedure: expected one of standard, best_of_n, worst_of_n, kth_of_n"),
            HasSubstr("found `best_of`")));
  EXPECT_EQ(refusal(good(), {"inference.procedure=kth_of_n", "inference.k=5"}),
            "run.yaml:8: inference: procedure kth_of_n: k must lie between 1 and n");
  EXPECT_EQ(
      refusal(good(), {"inference.procedure=best_of_random_n"}),
      "run.yaml:8: inference: procedure best_of_random_n: weights must be the shares of N = 1, 2, ..., not "
      "negative and not all 0");
  EXPECT_EQ(refusal(good(), {"inference.procedure=best_of_random_n", "inference.weights=[1, 0, 0, 3]"}), "");
}

TEST_F(Checks, OpponentsAndMixturesAreProceduresToo) {
  EXPECT_EQ(refusal(good(), {"inference.opponent.procedure=standard"}), "");
  EXPECT_THAT(refusal(good(), {"inference.opponent.procedure=best_of_n"}),
              HasSubstr("best_of_n of 1 is ordinary sampling"));
  EXPECT_EQ(refusal(good(), {"inference.mixture=[{share: 1, procedure: standard, n: 1}, {share: 2, n: 16}]",
                             "evaluation.samples_per_prompt=16"}),
            "");
  EXPECT_THAT(refusal(good(), {"inference.mixture=[{n: 64}]"}), HasSubstr("hold no best_of_n 64"));
  EXPECT_THAT(refusal(good(), {"inference.mixture=[{share: 0}]"}), HasSubstr("number, above 0; found `0`"));
  EXPECT_THAT(refusal(good(), {"inference.mixture=3"}), HasSubstr("expected a list of procedures"));
}

TEST_F(Checks, VotesNeedAnswersAndAnOpponentThatRewardsCanTell) {
  const std::vector<std::string> vote = {"inference.procedure=majority_vote",
                                         "alignment.transform=leave_one_out"};
  EXPECT_THAT(refusal(good(), vote), HasSubstr("majority_vote needs a regular expression"));
  auto with_answer = vote;
  with_answer.push_back("inference.answer='[0-9]+'");
  EXPECT_THAT(refusal(good(), with_answer), HasSubstr("cannot be told from calibrated rewards alone"));
  with_answer.push_back("inference.value=reward");
  EXPECT_EQ(refusal(good(), with_answer), "");
}

TEST_F(Checks, OptimalNeedsRanksAndLeaveOneOutMoreSamplesThanCandidates) {
  EXPECT_THAT(refusal(good(), {"inference.procedure=retry_until"}),
              HasSubstr("does not follow from ranks, so optimal is not known; use leave_one_out"));
  EXPECT_EQ(refusal(good(), {"inference.procedure=retry_until", "alignment.transform=leave_one_out"}), "");
  EXPECT_THAT(refusal(good(), {"alignment.transform=leave_one_out", "alignment.samples_per_prompt=4"}),
              HasSubstr("leave_one_out with best_of_n 4 needs 5 or more, not 4"));
  EXPECT_THAT(refusal(good(), {"alignment.transform=points"}), HasSubstr("give u, Phi(u)"));
  EXPECT_EQ(refusal(good(), {"alignment.transform=points", "alignment.points=[0, 0, 0.5, 0.1, 1, 1]"}), "");
  EXPECT_THAT(refusal(good(), {"alignment.points=[0, x]"}), HasSubstr("list of numbers; found `x`"));
}

TEST_F(Checks, FreshRolloutsAreRankedWithinTheirPrompt) {
  EXPECT_EQ(refusal(good(), {"calibration.fresh=true"}), "");
  EXPECT_THAT(refusal(good(), {"calibration.fresh=true", "calibration.mode=global"}),
              HasSubstr("use mode: prompt"));
}

TEST_F(Checks, SyntheticTablesTakeThePlaceOfModelsAndPrompts) {
  const std::string tables =
      "name: t\noutput: out\nstages: [calibrate, align, evaluate, report]\n"
      "synthetic: {prompts: 4}\nalignment: {beta: 0.1}\n";
  EXPECT_EQ(refusal(tables), "");
  EXPECT_THAT(refusal(tables, {"model.reference=model"}), HasSubstr("synthetic takes its place"));
  EXPECT_THAT(refusal(tables, {"stages=[calibrate, align, export]"}), HasSubstr("export needs a model"));
}

TEST_F(Checks, TransformsAreThoseOfTheRegistry) {
  for (const std::string& name : alignment::transform_names()) {
    if (name == "points") continue;  // needs its points
    EXPECT_EQ(refusal(good(), {"alignment.transform=" + name}), "");
  }
  EXPECT_THAT(refusal(good(), {"alignment.transform=sqrt"}),
              AllOf(HasSubstr("--set alignment.transform: expected one of identity, log, exponential"),
                    HasSubstr("found `sqrt`")));
}

TEST_F(Checks, AnExponentPointsTheProceduresWay) {
  const std::string yaml = good("  transform: exponential\n  exponent: 5\n");
  EXPECT_EQ(refusal(yaml), "");
  EXPECT_EQ(refusal(yaml, {"inference.procedure=worst_of_n"}),
            "run.yaml:16: alignment.exponent: 5 rewards the wrong end for worst_of_n; use -5, or 0 to have "
            "it chosen");
  EXPECT_EQ(refusal(yaml, {"alignment.exponent=-5", "inference.procedure=worst_of_n"}), "");
  EXPECT_THAT(refusal(yaml, {"alignment.exponent=-5"}),
              HasSubstr("rewards the wrong end for best_of_n; use 5"));
}

TEST_F(Checks, AlignmentSamplesFromThePolicyItself) {
  EXPECT_THAT(
      refusal(good(), {"sampling.top_p=0.9"}),
      HasSubstr(
          "--set sampling.top_p: with 0.9 the sampler would no longer be the policy whose KL divergence "
          "is measured"));
  EXPECT_THAT(
      warnings(good(), {"sampling.top_p=0.9", "stages=[evaluate]"}),
      ElementsAre("--set sampling.top_p: with 0.9 the measured KL divergence is not that of the sampler"));
}

TEST_F(Checks, StagesAreKnownInOrderAndOnce) {
  EXPECT_EQ(refusal(good(), {"stages=[align, calibrate]"}),
            "--set stages: calibrate comes before align; the order is finetune, reward, calibrate, align, "
            "evaluate, "
            "report and export");
  EXPECT_EQ(refusal(good(), {"stages=[calibrate, calibrate]"}), "--set stages: calibrate is named twice");
  EXPECT_EQ(
      refusal(good(), {"stages=[calibrte]"}),
      "--set stages: expected a list of: finetune, reward, calibrate, align, evaluate, report, export; found "
      "`calibrte`");
  EXPECT_THAT(refusal(good(), {"stages=[]"}), HasSubstr("--set stages: names no stage"));
  EXPECT_THAT(refusal(good(), {"stages=align"}), HasSubstr("--set stages: expected a list of: "));
}

TEST_F(Checks, StagesHaveWhatTheyNeed) {
  EXPECT_EQ(
      refusal(good(), {"model=null", "prompts=null"}),
      "--set model: model.reference: missing, but needed to calibrate, align and evaluate; name a model "
      "folder\n"
      "--set model: model.reward: missing, but needed to calibrate, align and evaluate; name a folder with a "
      "score head, or add a reward section and the reward stage\n"
      "--set prompts: prompts.train: missing, but needed to calibrate and align; name a file of JSON lines "
      "{\"prompt\": ...}\n"
      "--set prompts: prompts.heldout: missing, but needed to evaluate; name a file of JSON lines "
      "{\"prompt\": ...}, or set heldout_fraction");
  EXPECT_EQ(refusal(good(), {"prompts.heldout=null", "prompts.heldout_fraction=0.1"}), "");
  EXPECT_EQ(
      refusal(good(), {"prompts.heldout_fraction=0.1"}),
      "--set prompts.heldout_fraction: prompts.heldout says already what is held out; keep one of them");
  EXPECT_EQ(refusal(good(), {"stages=[finetune, reward]"}),
            "run.yaml: finetune: missing, but needed to finetune; add the section\n"
            "run.yaml: reward: missing, but needed to reward; add the section");
}

TEST_F(Checks, AlignNeedsACalibrationFromSomewhere) {
  EXPECT_EQ(refusal(good(), {"stages=[align]"}),
            "--set stages: align needs a calibration; name calibrate before it, or set calibration.reuse");
  write("old.h5", "");
  EXPECT_EQ(refusal(good(), {"stages=[align]", "calibration.reuse=old.h5"}), "");
  write("out/calibration.h5", "");
  EXPECT_EQ(refusal(good(), {"stages=[align]"}), "") << "an earlier run of this file left one";
}

TEST_F(Checks, TheRewardStageMakesTheRewardModel) {
  const std::vector<std::string> trained = {"model.reward=null", "reward.preferences=pairs.jsonl"};
  std::vector<std::string> overrides = trained;
  overrides.push_back("stages=[reward, calibrate, align, evaluate]");
  EXPECT_EQ(refusal(good(), overrides), "");
  EXPECT_THAT(refusal(good(), trained),
              HasSubstr("out/models/reward has not been trained yet; name reward in stages"));
  write("out/models/reward/config.json", "{}");
  EXPECT_EQ(refusal(good(), trained), "") << "trained by an earlier run of this file";
}

TEST_F(Checks, TheRewardStageAloneNeedsNothingOfTheOthers) {
  EXPECT_EQ(refusal("name: a\noutput: out\nstages: [reward]\nmodel: {reference: model}\n"
                    "reward: {preferences: pairs.jsonl}\n"),
            "");
}

TEST_F(Checks, NullUnsetsAnOptionalSection) {
  const std::string yaml = good("reward: {preferences: pairs.jsonl}\n");
  EXPECT_THAT(warnings(yaml),
              ElementsAre("run.yaml:15: reward: has no effect: model.reward is given and stages does "
                          "not name reward"));
  EXPECT_EQ(load(yaml, {"reward=null"}).reward, std::nullopt);
  EXPECT_THAT(warnings(yaml, {"reward=null"}), ElementsAre());
}

TEST_F(Checks, AFolderThatThisRunWillWriteNeedNotBeThere) {
  EXPECT_EQ(refusal(good(), {"model.reward=later", "reward.preferences=pairs.jsonl",
                             "stages=[reward, calibrate, align, evaluate]"}),
            "");
  EXPECT_EQ(refusal(good(), {"model.reward=later"}), "--set model.reward: there is no folder later");
}

TEST_F(Checks, FinetuneNeedsAStart) {
  const std::string yaml = good("finetune: {text: text.txt}\n");
  EXPECT_EQ(load(yaml, {"stages=[finetune]"}).finetune->initial, folder_ / "model");
  EXPECT_EQ(
      refusal(yaml, {"stages=[finetune]", "finetune.from_scratch=true"}),
      "run.yaml:15: finetune.initial: missing, but needed to finetune; name the folder whose config.json and "
      "tokenizer are used");
  EXPECT_EQ(refusal(yaml, {"stages=[finetune, calibrate, align, evaluate]", "finetune.from_scratch=true",
                           "finetune.initial=model", "model.reference=null"}),
            "")
      << "the fine-tuned model is the reference";
  EXPECT_THAT(warnings(yaml),
              ElementsAre("run.yaml:15: finetune: has no effect: stages does not name finetune"));
}

TEST_F(Checks, AbsentInputsAreNamed) {
  std::filesystem::create_directories(folder_ / "hollow");
  EXPECT_EQ(
      refusal(good(), {"model.reference=hollow"}),
      "--set model.reference: hollow is not a Hugging Face model folder: it has no config.json, nor the "
      "adapter_config.json of an adapter");
  EXPECT_EQ(refusal(good(), {"prompts.train=hollow"}),
            "--set prompts.train: hollow is a folder; name a file");
  EXPECT_EQ(refusal(good(), {"prompts.train=none.jsonl"}),
            "--set prompts.train: there is no file none.jsonl");
}

TEST_F(Checks, GroupsOfRanksDivideParameters) {
  EXPECT_EQ(
      refusal(good(), {"distributed.shard_ranks=4"}),
      "--set distributed.shard_ranks: parameters are divided among ranks only in sharding: 3, not in 1");
  EXPECT_EQ(refusal(good(), {"distributed.sharding=3", "distributed.shard_ranks=1"}),
            "--set distributed.shard_ranks: one rank alone has nothing to divide; use sharding: 2, or 2 or "
            "more");
}

TEST_F(Checks, VariantNamesAreFoldersOfTheirOwn) {
  EXPECT_EQ(refusal(good("  variants:\n    - {name: a}\n    - {name: b}\n    - {name: a}\n")),
            "run.yaml:18: alignment.variants.2: is named `a` like variant 0; give each a name of its own");
  EXPECT_EQ(
      refusal(good("  variants: [{}, {}]\n")),
      "run.yaml:15: alignment.variants.1: is named `optimal` like variant 0; give each a name of its own");
  for (const std::string name : {"a/b", "..", ".hidden", "-rf", "two words", "\xC3\xA9"}) {
    EXPECT_THAT(refusal(good("  variants: [{name: \"" + name + "\"}]\n")),
                HasSubstr("alignment.variants.0.name: `" + name + "` cannot name a folder"));
  }
}

TEST_F(Checks, WhatIsHardlyMeantIsWarnedOf) {
  EXPECT_THAT(warnings(good(), {"alignment.learning_rate=0"}),
              ElementsAre("--set alignment.learning_rate: with 0 nothing is learned"));
  EXPECT_THAT(warnings(good("  variants: [{name: a}, {name: b}]\n"), {"alignment.learning_rate=1"}),
              ElementsAre("--set alignment.learning_rate: 1 is unusually large for AdamW"))
      << "inherited, so said once";
  EXPECT_THAT(
      warnings(good(), {"alignment.warmup_steps=100"}),
      ElementsAre(
          "--set alignment.warmup_steps: 100 of 100 steps are warm-up: the full learning rate is never "
          "reached"));
  EXPECT_THAT(
      warnings(good(), {"calibration.rollouts_per_prompt=16", "alignment.transform=exponential"}),
      ElementsAre(
          "--set calibration.rollouts_per_prompt: 16 are few for an exponential transform with exponent "
          "10; about 100 are right"));
  // H_16 = 3.38 nats.
  EXPECT_THAT(
      warnings(good(), {"calibration.rollouts_per_prompt=16", "alignment.target_kl=3.4"}),
      ElementsAre(
          "--set alignment.target_kl: 3.4 nats are more than 16 rollouts per prompt can tell apart; add "
          "rollouts or aim lower"));
  EXPECT_THAT(warnings(good(), {"calibration.rollouts_per_prompt=16", "alignment.target_kl=3.38"}),
              ElementsAre());
}

TEST_F(Checks, PoliciesInBfloat16StandBesideSuchReferences) {
  EXPECT_THAT(warnings(good("memory: {policy: bfloat16, reference: bfloat16, stochastic_rounding: true}\n")),
              ElementsAre());
  EXPECT_THAT(
      warnings(good("memory: {policy: bfloat16}\n")),
      ElementsAre(HasSubstr("memory.policy: the policy starts rounded to bfloat16 and the reference")));
  EXPECT_THAT(warnings(good("memory: {stochastic_rounding: true}\n")),
              ElementsAre(HasSubstr("memory.stochastic_rounding: has no effect")));
}

TEST_F(Checks, AdaptersNeedAModelAndAreExportedIfThereAreAny) {
  EXPECT_THAT(load(good("export: {lora: adapter}\n")).warnings,
              testing::ElementsAre(HasSubstr("export.lora: has no effect: no policy is an adapter")));
  EXPECT_THAT(load(good("  lora: {rank: 4}\nexport: {lora: adapter}\n")).warnings, testing::IsEmpty());
  EXPECT_THAT(refusal("name: test\noutput: out\nstages: [calibrate, align]\nsynthetic: {prompts: 4}\n"
                      "alignment: {target_kl: 0.5, prompts_per_step: 4, lora: {rank: 2}}\n"),
              HasSubstr("alignment.lora.rank: needs a model, and synthetic has none; use 0"));
}

}  // namespace
}  // namespace infalign::experiment
