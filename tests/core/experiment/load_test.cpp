// From a file's text to values: types, ranges, inheritance, unknown keys, and all problems at once.
#include <algorithm>

#include "core/experiment/experiment_fixture.h"

namespace infalign::experiment {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Load : public ExperimentTest {};

TEST_F(Load, ReadsWhatTheFileSaysAndFillsInTheRest) {
  const Experiment e =
      load(good("  learning_rate: 3.0e-4\n"
                "sampling: {temperature: 0.7, max_new_tokens: 24}\n"
                "distributed: {reproducible: false, micro_batch_prompts: 8}\n"));
  EXPECT_EQ(e.name, "test");
  EXPECT_EQ(e.output, folder_ / "out");
  EXPECT_THAT(e.stages, ElementsAre(Stage::kCalibrate, Stage::kAlign, Stage::kEvaluate));
  EXPECT_EQ(e.model.reference, folder_ / "model");
  EXPECT_TRUE(e.model.judge.empty());
  EXPECT_EQ(e.inference.procedure, "best_of_n");
  EXPECT_EQ(e.inference.n, 4);
  EXPECT_EQ(e.sampling.temperature, 0.7);
  EXPECT_EQ(e.sampling.top_p, 1);
  EXPECT_EQ(e.sampling.max_new_tokens, 24);
  EXPECT_FALSE(e.distributed.reproducible);
  EXPECT_EQ(e.alignment.steps, 100);
  EXPECT_EQ(e.alignment.samples_per_prompt, 32);
  EXPECT_EQ(e.device, "auto");
  EXPECT_FALSE(e.finetune || e.reward || e.judge);
  EXPECT_THAT(e.warnings, ElementsAre());
}

TEST_F(Load, AFileWithoutVariantsHasOneNamedAfterItsTransform) {
  const Experiment e = load(good("  transform: log\n  learning_rate: 3e-4\n"));
  ASSERT_EQ(e.alignment.variants.size(), 1u);
  EXPECT_EQ(e.alignment.variants[0].name, "log");
  EXPECT_EQ(e.alignment.variants[0].target_kl, 0.5);
  EXPECT_EQ(e.alignment.variants[0].optimizer.learning_rate, 3e-4);
}

TEST_F(Load, VariantsInheritWhatTheyDoNotSet) {
  const Experiment e =
      load(good("  transform: identity\n"
                "  learning_rate: 3e-4\n"
                "  variants:\n"
                "    - {name: plain}\n"
                "    - {transform: optimal, learning_rate: 1e-3, beta1: 0.8}\n"));
  ASSERT_EQ(e.alignment.variants.size(), 2u);
  const Variant &plain = e.alignment.variants[0], &other = e.alignment.variants[1];
  EXPECT_EQ(plain.transform, "identity");
  EXPECT_EQ(plain.optimizer.learning_rate, 3e-4);
  EXPECT_EQ(other.name, "optimal");
  EXPECT_EQ(other.target_kl, 0.5);
  EXPECT_EQ(other.optimizer.learning_rate, 1e-3);
  EXPECT_EQ(other.optimizer.beta1, 0.8);
  EXPECT_EQ(plain.optimizer.beta1, 0.9);
}

TEST_F(Load, AVariantsBetaPutsAnInheritedTargetOutOfForce) {
  const Experiment e = load(good("  variants: [{name: a}, {name: b, beta: 0.1}]\n"));
  EXPECT_EQ(e.alignment.variants[0].target_kl, 0.5);
  EXPECT_EQ(e.alignment.variants[0].beta, std::nullopt);
  EXPECT_EQ(e.alignment.variants[1].beta, 0.1);
  EXPECT_EQ(e.alignment.variants[1].target_kl, std::nullopt);
}

TEST_F(Load, AnExponentLeftOpenFollowsTheProcedure) {
  const std::string exponential = good("  transform: exponential\ncalibration: {rollouts_per_prompt: 128}\n");
  EXPECT_EQ(load(exponential).alignment.variants[0].exponent, 10);
  EXPECT_EQ(load(exponential, {"inference.procedure=worst_of_n"}).alignment.variants[0].exponent, -10);
  EXPECT_EQ(load(exponential, {"alignment.exponent=7"}).alignment.variants[0].exponent, 7);
}

TEST_F(Load, AChatTemplateIsANameOrAFileBesideTheConfiguration) {
  const auto with = [&](const std::string& choice) {
    return load(good(), {"model.chat_template=" + choice}).model.chat_template;
  };
  EXPECT_EQ(with("chatml"), "chatml");
  write("chat.jinja", "{{ messages }}");
  EXPECT_EQ(with("chat.jinja"), (folder_ / "chat.jinja").string());
  EXPECT_THAT(refusal(good(), {"model.chat_template=other.jinja"}), HasSubstr("there is no file"));
}

TEST_F(Load, WholeNumbersAreExact) {
  EXPECT_EQ(load(good(), {"alignment.steps=1e3"}).alignment.steps, 1000);
  EXPECT_EQ(load(good(), {"seed=18446744073709551615"}).seed, 18446744073709551615u);
  for (const std::string text : {"1.5", "1e30", "0x10", "ten", "10 steps", "nan", "", "'1,000'"}) {
    EXPECT_THAT(refusal(good(), {"alignment.steps=" + text}),
                HasSubstr("--set alignment.steps: expected whole number, at least 1; found"))
        << text;
  }
  EXPECT_EQ(refusal(good(), {"seed=-1"}), "--set seed: expected whole number, at least 0; found `-1`");
}

TEST_F(Load, NumbersAreFiniteAndInRange) {
  for (const std::string text : {"nan", ".inf", "inf", "1e999", "0", "-1", "warm", "1,5"}) {
    EXPECT_EQ(refusal(good(), {"sampling.temperature=" + text}),
              "--set sampling.temperature: expected number, above 0; found `" + text + "`");
  }
  EXPECT_EQ(refusal(good(), {"alignment.beta2=1"}),
            "--set alignment.beta2: expected number, at least 0, below 1; found `1`");
}

TEST_F(Load, WrongKindsOfValueAreNamed) {
  EXPECT_EQ(refusal(good("sampling: warm\n")),
            "run.yaml:15: sampling: expected a section with keys; found a value");
  EXPECT_EQ(refusal(good("seed: [1]\n")),
            "run.yaml:15: seed: expected whole number, at least 0; found a list");
  EXPECT_EQ(refusal(good("seed:\n")), "run.yaml:15: seed: expected whole number, at least 0; found nothing");
  EXPECT_EQ(refusal(good("seed: {a: 1}\n")),
            "run.yaml:15: seed: expected whole number, at least 0; found a section");
  EXPECT_EQ(refusal(good("distributed: {reproducible: yes}\n")),
            "run.yaml:15: distributed.reproducible: expected true or false; found `yes`");
  EXPECT_EQ(refusal(good("device: tpu\n")),
            "run.yaml:15: device: expected one of auto, cpu, cuda; found `tpu`");
  EXPECT_EQ(refusal(good("  variants: {name: a}\n")),
            "run.yaml:15: alignment.variants: expected a list of at least one variant, such as {name: mine, "
            "transform: log}");
}

TEST_F(Load, AnUnknownKeyIsRefusedWithTheNearestKnownOne) {
  EXPECT_EQ(refusal(good("  sample_per_prompt: 8\n")),
            "run.yaml:15: alignment.sample_per_prompt: unknown key; did you mean samples_per_prompt?");
  EXPECT_EQ(refusal(good("  variants:\n    - {name: a, transfrom: log}\n")),
            "run.yaml:16: alignment.variants.0.transfrom: unknown key; did you mean transform?");
  // Misspelt, so nothing is said to be missing besides.
  EXPECT_EQ(refusal(good(), {"prompts=null", "promts.train=train.jsonl"}),
            "--set promts.train: promts: unknown key; did you mean prompts?");
}

TEST_F(Load, AKeyInTheWrongSectionIsSentToTheRightOne) {
  EXPECT_EQ(refusal(good("temperature: 1\n")),
            "run.yaml:15: temperature: unknown key; did you mean sampling.temperature?");
  EXPECT_THAT(refusal(good("gpus: 8\n")),
              HasSubstr("run.yaml:15: gpus: unknown key; known here: name, seed, "));
}

TEST_F(Load, RequiredKeysAreMissed) {
  EXPECT_EQ(refusal("{}"),
            "run.yaml: name: missing: Names the run in its report.\n"
            "run.yaml: output: missing: Folder of everything the run writes.\n"
            "run.yaml: stages: missing: What the run does, in this order.");
  EXPECT_EQ(refusal(""), refusal("{}"));
  EXPECT_EQ(refusal(good(), {"name=''"}), "--set name: must not be empty");
  EXPECT_EQ(refusal(good(), {"output="}), "--set output: must not be empty");
  EXPECT_THAT(refusal(good("reward: {epochs: 2}\n")),
              HasSubstr("run.yaml:15: reward.preferences: missing: "));
}

TEST_F(Load, AllProblemsComeAtOnceInTheFilesOrder) {
  EXPECT_EQ(
      refusal("name: test\n"
              "output: out\n"
              "stages: [calibrate, align]\n"
              "model: {reference: nowhere, reward: critic}\n"
              "prompts: {train: train.jsonl}\n"
              "sampling: {temperature: hot}\n"
              "alignment:\n"
              "  target_lk: 0.5\n"
              "  prompts_per_step: 30\n",
              {"checkpoint.every=0"}),
      "run.yaml:4: model.reference: there is no folder nowhere\n"
      "run.yaml:6: sampling.temperature: expected number, above 0; found `hot`\n"
      "run.yaml:8: alignment.target_lk: unknown key; did you mean target_kl?\n"
      "run.yaml:9: alignment.prompts_per_step: 30 is not a multiple of distributed.micro_batch_prompts (4); "
      "use 28 or 32\n"
      "--set checkpoint.every: expected whole number, at least 1; found `0`");
}

TEST_F(Load, ExactlyOneOfBetaAndTargetKl) {
  EXPECT_EQ(
      refusal(good("  beta: 0.1\n")),
      "run.yaml:12: alignment.target_kl: beta is given too; keep one of them, or set the other to null");
  EXPECT_EQ(load(good(), {"alignment.target_kl=null", "alignment.beta=0.1"}).alignment.variants[0].beta, 0.1);
  EXPECT_EQ(
      refusal(good(), {"alignment.target_kl=null"}),
      "run.yaml:11: alignment: needs beta (a fixed weight of the KL) or target_kl (nats, beta then follows)");
  EXPECT_EQ(refusal(good("  variants: [{name: a, beta: 1}, {name: b}]\n"), {"alignment.target_kl=null"}),
            "run.yaml:15: alignment.variants.1: needs beta (a fixed weight of the KL) or target_kl (nats, "
            "beta then "
            "follows)");
}

TEST_F(Load, PathsCountFromTheFileAndAreTidied) {
  EXPECT_EQ(load(good(), {"output=../there/./x/"}).output, folder_.parent_path() / "there" / "x");
  EXPECT_EQ(load(good(), {"output=/some/where"}).output, "/some/where");
}

TEST_F(Load, OneStageAloneHasToBeNamed) {
  load(good());
  EXPECT_NO_THROW(load_experiment(file(), {}, Stage::kAlign));
  EXPECT_THROW(
      try { load_experiment(file(), {}, Stage::kReward); } catch (const ConfigurationError& error) {
        EXPECT_THAT(error.what(), HasSubstr("run.yaml:3: stages: does not name reward; add it"));
        throw;
      },
      ConfigurationError);
}

}  // namespace
}  // namespace infalign::experiment
