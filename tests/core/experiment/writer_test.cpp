// The resolved configuration loads to the same experiment, wherever it is put.
#include "core/experiment/writer.h"

#include "core/experiment/experiment_fixture.h"
#include "core/experiment/keys.h"

namespace infalign::experiment {
namespace {

using testing::HasSubstr;
using testing::Not;

class Writer : public ExperimentTest {
 protected:
  /// Loads what `first` resolved to from another folder, without the warnings, whose places differ.
  Experiment reload(const Experiment& first, const std::vector<std::string>& overrides = {}) const {
    write("elsewhere/again.yaml", first.yaml);
    Experiment again = load_experiment(folder_ / "elsewhere" / "again.yaml", overrides);
    again.warnings = first.warnings;
    return again;
  }
};

/// An experiment in which no key has its default.
std::string unusual() {
  return R"(
name: "a \"name\": with $${LITERAL}, \\, \x01 and é"
seed: 18446744073709551615
output: "out put"
stages: [finetune, reward, calibrate, align, evaluate, report, export]
device: cpu
dtype: bfloat16
model:
  reference: model
  chat_template: chatml
  reward: {models: critic, combine: lower_bound, kappa: 0.5, read_at: stop_token}
  judge: critic
  reranker: {command: [sh, text.txt, "a, b: $${LITERAL}"], timeout: 2.5, restarts: 0}
finetune: {text: text.txt, initial: model, from_scratch: true, steps: 7, sequences_per_step: 3, sequence_length: 99,
           heldout_fraction: 0.05, learning_rate: 0.1, schedule: cosine, final_learning_rate_fraction: 0.3}
reward: {preferences: pairs.jsonl, backbone: model, part: first_half, epochs: 2, pairs_per_step: 9, max_tokens: 77, too_long: drop, read_at: last_token,
         layers: 2, heldout_fraction: 0.2, margin: 0.5, centre_rewards: 0.01, beta1: 0.1, beta2: 0.2, epsilon: 1.0e-30, seed_offset: 5}
judge: {preferences: pairs.jsonl, part: second_half, weight_decay: 0.01, max_gradient_norm: 0, warmup_steps: 4}
prompts: {train: train.jsonl, heldout_fraction: 0.4, max_train: 5, max_heldout: 6, max_tokens: 33, too_long: truncate_left}
sampling: {temperature: 0.30000000000000004, max_new_tokens: 8}
inference: {procedure: kth_of_n, n: 3, k: 2, strength: 2.5, weights: [0.25, 1.0], quantile: 0.5, threshold: -1.5,
            value: reward, answer: "[0-9]+",
            opponent: {procedure: best_of_n, n: 2, k: 3, strength: 1.0, weights: [1.0], quantile: 0.1, threshold: 2.0},
            mixture: [{share: 0.25, procedure: standard, n: 1}, {procedure: best_of_n, n: 8}]}
calibration: {mode: hierarchical, rollouts_per_prompt: 100, exact_quantiles: false, prior_strength: 3.5,
              reuse: train.jsonl}
alignment:
  transform: exponential
  debiased: true
  cut: 0.25
  points: [0.0, 0.0, 1.0, 2.0]
  beta: 0.125
  steps: 11
  prompts_per_step: 10
  samples_per_prompt: 6
  learning_rate: 1.0e-5
  max_sampler_trainer_gap: 1.0e-3
  max_skipped_steps: 0
  lora: {rank: 8, alpha: 4.5, targets: [q_proj, "v: proj"]}
  variants:
    - {name: on, lora: {rank: 0}}
    - {name: b.2, transform: zscore, target_kl: 0.7, learning_rate: 123456789012345680.0, schedule: linear}
evaluation: {samples_per_prompt: 12, examples: 0}
export: {lora: adapter}
memory: {recompute_activations: true, reference: bfloat16, reward: bfloat16, judge: bfloat16, reranker: bfloat16, policy: bfloat16, stochastic_rounding: true}
distributed: {sharding: 3, shard_ranks: 4, reproducible: false, micro_batch_prompts: 5, threads: 2, watchdog_seconds: 7.5}
checkpoint: {every: 3, keep: 9, keep_every: 6, use_older: true, time_limit: 90}
)";
}

TEST_F(Writer, RoundTripsAPlainExperiment) {
  const Experiment e = load(good());
  EXPECT_EQ(reload(e), e);
}

TEST_F(Writer, RoundTripsFieldByField) {
  const Experiment e = load(unusual()), again = reload(e);
  EXPECT_EQ(again.name, "a \"name\": with ${LITERAL}, \\, \x01 and é");
  EXPECT_EQ(again.alignment.variants[0].exponent, 7.5);
  EXPECT_EQ(again.inference, e.inference);
  EXPECT_EQ(again.inference.mixture.at(1).k, 2);  // inherited
  EXPECT_EQ(again.alignment.variants[1].beta, std::nullopt);
  EXPECT_EQ(again.model, e.model);
  EXPECT_EQ(again.model.reward.kappa, 0.5);
  EXPECT_THAT(again.model.reranker.command,
              testing::ElementsAre("sh", (folder_ / "text.txt").string(), "a, b: ${LITERAL}"));
  EXPECT_EQ(again.finetune, e.finetune);
  EXPECT_EQ(again.reward, e.reward);
  EXPECT_EQ(again.judge, e.judge);
  EXPECT_EQ(again.sampling, e.sampling);
  EXPECT_EQ(again.calibration, e.calibration);
  EXPECT_EQ(again.alignment, e.alignment);
  EXPECT_EQ(again, e);
}

TEST_F(Writer, RoundTripsTables) {
  const Experiment e = load(
      "name: t\noutput: out\nstages: [calibrate, align]\nalignment: {beta: 1}\n"
      "synthetic: {prompts: 3, responses: 7, rewards: levels, levels: 4, pass_rate: 0.3,\n"
      "            scale_spread: 0.5, offset_spread: 0.25, answers: 6}\n");
  EXPECT_EQ(e.synthetic->levels, 4);
  EXPECT_EQ(reload(e), e);
}

// Guards the test above: a field that keeps its default there would not be tested.
TEST_F(Writer, TheUnusualExperimentLeavesFewDefaults) {
  Experiment unusual_values = load(unusual()), defaults = with_every_section();
  std::vector<std::string> same;
  const auto compare = [&](const Section& a, const Section& b) {
    for (const Key& key : a.keys) {
      if (to_yaml(key) == to_yaml(*b.find(key.name))) same.push_back(a.name + "." + key.name);
    }
  };
  const Section a = describe(unusual_values), b = describe(defaults);
  compare(a, b);
  for (const Section& section : a.sections)
    compare(section, *std::ranges::find(b.sections, section.name, &Section::name));
  ASSERT_EQ(a.sections.size() + 1, b.sections.size()) << "only `synthetic` is not there";
  const Section &reward = a.sections.front().sections.at(0), &reranker = a.sections.front().sections.at(2);
  for (const Key& key : b.sections.front().sections.at(0).keys)
    EXPECT_TRUE(to_yaml(key) != to_yaml(*reward.find(key.name)) ||
                to_yaml(key) != to_yaml(*reranker.find(key.name)))
        << key.name;
  // The optimizer's keys stand in four sections and are set in one or two of them; these have one value only.
  std::erase_if(same, [](const std::string& key) {
    return key.starts_with("finetune.") || key.starts_with("reward.") || key.starts_with("judge.");
  });
  EXPECT_THAT(same, testing::UnorderedElementsAre(
                        "prompts.heldout", "sampling.top_p", "calibration.fresh", "alignment.objective",
                        "alignment.exponent", "alignment.target_kl", "alignment.schedule",
                        "alignment.final_learning_rate_fraction", "alignment.warmup_steps", "alignment.beta1",
                        "alignment.beta2", "alignment.epsilon", "alignment.weight_decay",
                        "alignment.max_gradient_norm"));
}

TEST_F(Writer, SaysEveryKeyAndLeavesOutWhatIsInherited) {
  const Experiment e = load(good("  variants: [{name: a}, {name: b, transform: log}]\n"));
  EXPECT_THAT(e.yaml, HasSubstr("\nalignment:\n  transform: optimal\n"));
  EXPECT_THAT(e.yaml, HasSubstr("  variants:\n    - name: a\n    - name: b\n      transform: log\n"));
  EXPECT_THAT(e.yaml, HasSubstr("  learning_rate: 0.0001\n"));
  EXPECT_THAT(e.yaml, HasSubstr("  reference: " + quoted((folder_ / "model").string()) + "\n"));
  EXPECT_THAT(e.yaml, HasSubstr("device: auto\n"));
  EXPECT_THAT(e.yaml, Not(HasSubstr("finetune:")));
}

TEST_F(Writer, AnOverrideOfTheResolvedFileReachesInheritingVariants) {
  const Experiment e = load(good("  variants: [{name: a}, {name: b, learning_rate: 0.5}]\n"));
  const Experiment again = reload(e, {"alignment.learning_rate=0.25"});
  EXPECT_EQ(again.alignment.variants[0].optimizer.learning_rate, 0.25);
  EXPECT_EQ(again.alignment.variants[1].optimizer.learning_rate, 0.5);
}

TEST(Quoted, LeavesOnlyWhatNoReaderMistakes) {
  EXPECT_EQ(quoted("/a/b-c_d.e"), "/a/b-c_d.e");
  EXPECT_EQ(quoted(""), "\"\"");
  EXPECT_EQ(quoted("on"), "\"on\"");
  EXPECT_EQ(quoted("1e5"), "\"1e5\"");
  EXPECT_EQ(quoted("a: b"), "\"a: b\"");
  EXPECT_EQ(quoted("tab\there"), "\"tab\\x09here\"");
}

}  // namespace
}  // namespace infalign::experiment
