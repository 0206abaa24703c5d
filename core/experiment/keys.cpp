#include "core/experiment/keys.h"

#include <algorithm>
#include <iterator>

#include "core/alignment/procedures.h"
#include "core/alignment/transform.h"

namespace infalign::experiment {
namespace {

std::vector<std::string> transform_names() {
  using alignment::TransformKind;
  std::vector<std::string> names;
  for (const TransformKind kind :
       {TransformKind::kIdentity, TransformKind::kLog, TransformKind::kExponential, TransformKind::kPower,
        TransformKind::kOptimal, TransformKind::kRaw, TransformKind::kZScore}) {
    names.push_back(alignment::transform_name(kind));
  }
  return names;
}

std::vector<std::string> stage_names() {
  std::vector<std::string> names;
  std::ranges::transform(all_stages(), std::back_inserter(names), stage_name);
  return names;
}

Rule required_one_of(std::vector<std::string> choices) {
  Rule rule = one_of(std::move(choices));
  rule.required = true;
  return rule;
}

/// AdamW's keys stand flat in every section that trains.
void append(std::vector<Key>& keys, OptimizerSettings& o) {
  const std::vector<Key> optimizer = {
      {"learning_rate", &o.learning_rate, at_least(0), "AdamW's learning rate once warmed up."},
      {"schedule", &o.schedule, one_of({"constant", "linear", "cosine"}),
       "How the learning rate goes on after the warm-up: stays, or falls to its final fraction."},
      {"final_learning_rate_fraction", &o.final_learning_rate_fraction, at_least(0).at_most(1),
       "Where linear and cosine end, as a fraction of learning_rate."},
      {"warmup_steps", &o.warmup_steps, at_least(0), "Steps in which the learning rate rises from 0."},
      {"beta1", &o.beta1, at_least(0).below(1), "AdamW's decay of the first moment."},
      {"beta2", &o.beta2, at_least(0).below(1), "AdamW's decay of the second moment."},
      {"epsilon", &o.epsilon, above(0), "AdamW's guard against division by zero."},
      {"weight_decay", &o.weight_decay, at_least(0), "Decoupled weight decay of matrices."},
      {"max_gradient_norm", &o.max_gradient_norm, at_least(0),
       "Gradients are clipped to this norm; 0: never."},
  };
  keys.insert(keys.end(), optimizer.begin(), optimizer.end());
}

Section describe(Model& m) {
  return {
      .name = "model",
      .meaning = "The models a run starts from, as Hugging Face folders.",
      .keys = {{"reference", &m.reference, anything(),
                "The reference policy: training starts from it and the KL divergence is measured to it."},
               {"reward", &m.reward, anything(),
                "A reward model, a folder with a score head; none: the reward stage makes it."},
               {"judge", &m.judge, anything(),
                "A second reward model that decides who wins at evaluation; none: the reward model does."}}};
}

Section describe(Finetune& f) {
  Section section{
      .name = "finetune",
      .meaning = "Optional: next-token training on plain text before anything else.",
      .keys = {{"text", &f.text, required(),
                "Documents separated by blank lines or <|endoftext|>, or JSON lines of {\"text\"}."},
               {"initial", &f.initial, anything(),
                "Folder whose config.json, tokenizer and weights are the start; none: model.reference."},
               {"from_scratch", &f.from_scratch, anything(),
                "Start from fresh weights in the shape of `initial`."},
               {"steps", &f.steps, at_least(1), "Optimizer steps."},
               {"sequences_per_step", &f.sequences_per_step, at_least(1),
                "Sequences in each step, over all ranks."},
               {"sequence_length", &f.sequence_length, at_least(2), "Tokens in a sequence."},
               {"heldout_fraction", &f.heldout_fraction, at_least(0).below(1),
                "Share of the documents kept aside to measure the loss."}}};
  append(section.keys, f.optimizer);
  return section;
}

Section describe(const std::string& name, const std::string& meaning, Reward& r) {
  Section section{
      .name = name,
      .meaning = meaning,
      .keys = {
          {"preferences", &r.preferences, required(),
           "JSON lines of {\"prompt\", \"chosen\", \"rejected\"}, or HH-RLHF transcripts; plain or gzip."},
          {"backbone", &r.backbone, anything(),
           "Folder of the model that gets the score head; none: where the policy starts."},
          {"part", &r.part, one_of({"all", "first_half", "second_half"}),
           "Which of the pairs: halves (by a hash of the pair) let reward and judge learn from different "
           "ones."},
          {"epochs", &r.epochs, at_least(1), "Passes over the pairs."},
          {"pairs_per_step", &r.pairs_per_step, at_least(1), "Pairs in each step, over all ranks."},
          {"max_tokens", &r.max_tokens, at_least(2), "Longer sequences lose their beginning."},
          {"heldout_fraction", &r.heldout_fraction, at_least(0).below(1),
           "Share of the pairs kept aside to measure the accuracy."}}};
  append(section.keys, r.optimizer);
  section.keys.push_back(
      {"seed_offset", &r.seed_offset, anything(),
       "Added to the seed: another initialisation and order, so that a judge errs differently."});
  return section;
}

Section describe(Prompts& p) {
  return {.name = "prompts",
          .meaning = "What the policy is asked, JSON lines of {\"prompt\"}, plain or gzip.",
          .keys = {{"train", &p.train, anything(), "Prompts to calibrate and align on."},
                   {"heldout", &p.heldout, anything(), "Prompts to evaluate on."},
                   {"max_train", &p.max_train, at_least(0), "Only the first so many of them; 0: all."},
                   {"max_heldout", &p.max_heldout, at_least(0), "Only the first so many of them; 0: all."}}};
}

Section describe(Sampling& s) {
  return {
      .name = "sampling",
      .meaning = "How responses are drawn, in calibration, training and evaluation alike.",
      .keys = {{"temperature", &s.temperature, above(0), "Divides the logits; the KL is that of the result."},
               {"top_p", &s.top_p, above(0).at_most(1), "Nucleus sampling; alignment needs 1."},
               {"max_new_tokens", &s.max_new_tokens, at_least(1), "The longest response."}}};
}

Section describe(Inference& i) {
  return {.name = "inference",
          .meaning = "How answers will be drawn in production: what the policy is aligned for.",
          .keys = {
              {"procedure", &i.procedure, one_of(alignment::procedure_names()),
               "Ordinary sampling, the best of n by the reward, or the worst of n (an attacker's choice)."},
              {"n", &i.n, at_least(1), "N, the number of candidates; 1 for standard, 2 or more otherwise."}}};
}

Section describe(Calibration& c) {
  return {
      .name = "calibration",
      .meaning = "The reference policy's own rewards, by which rewards become ranks in [0, 1].",
      .keys = {
          {"mode", &c.mode, one_of({"prompt", "global", "hierarchical"}),
           "Ranks within the prompt (the paper's), within all prompts together, or a mixture of both."},
          {"rollouts_per_prompt", &c.rollouts_per_prompt, at_least(2),
           "K, samples of the reference policy for each prompt; the rank's error is about 0.31 / sqrt(K)."},
          {"exact_quantiles", &c.exact_quantiles, anything(),
           "A second pass makes the pooled quantiles exact."},
          {"prior_strength", &c.prior_strength, at_least(0),
           "Of hierarchical: how many rollouts the pooled distribution counts for."},
          {"reuse", &c.reuse, anything(), "calibration.h5 of an earlier run, in place of sampling anew."}}};
}

/// What the alignment section shares with its variants.
std::vector<Key> variant_keys(Variant& v) {
  std::vector<Key> keys = {
      {"transform", &v.transform, one_of(transform_names()),
       "Phi, what the calibrated reward is turned into; optimal: the fixed point for the procedure and "
       "beta."},
      {"exponent", &v.exponent, anything(),
       "Of exponential: t in exp(t C), negative for worst_of_n; 0: 2.5 n with the procedure's sign."},
      {"beta", &v.beta, above(0), "Weight of the KL divergence. Give this or target_kl."},
      {"target_kl", &v.target_kl, above(0),
       "KL divergence per response, in nats, to which beta is steered. Give this or beta."}};
  append(keys, v.optimizer);
  return keys;
}

Section describe(Alignment& a) {
  Section section{.name = "alignment",
                  .meaning = "Training the policy on the transformed calibrated reward.",
                  .keys = variant_keys(a.shared),
                  .alternatives = {"beta", "target_kl"}};
  const std::vector<Key> own = {
      {"objective", &a.objective, one_of({"reinforce"}),
       "REINFORCE with a leave-one-out baseline, the KL as a reward penalty."},
      {"steps", &a.steps, at_least(1), "Optimizer steps."},
      {"prompts_per_step", &a.prompts_per_step, at_least(1),
       "Prompts in each step, over all ranks; a multiple of distributed.micro_batch_prompts."},
      {"samples_per_prompt", &a.samples_per_prompt, at_least(2),
       "Responses to each prompt, which are each other's baseline."},
      {"max_sampler_trainer_gap", &a.max_sampler_trainer_gap, above(0),
       "The run fails if sampler and trainer disagree on a log-probability by more, in nats."},
      {"max_skipped_steps", &a.max_skipped_steps, at_least(0),
       "The run fails after so many steps skipped for a gradient that was not finite."}};
  section.keys.insert(section.keys.begin() + 4, own.begin(), own.end());

  Section variants{.name = "variants",
                   .meaning =
                       "Policies trained side by side on one calibration and compared in one report. Without "
                       "this list there is one, as the section says.",
                   .is_list = true};
  for (Variant& variant : a.variants) variants.sections.push_back(describe(variant));
  section.sections.push_back(std::move(variants));
  return section;
}

Section describe(Evaluation& e) {
  return {.name = "evaluation",
          .meaning = "Win rates of the policies against the reference policy on held-out prompts.",
          .keys = {{"samples_per_prompt", &e.samples_per_prompt, at_least(2),
                    "M, responses of each policy to each prompt; at least inference.n."},
                   {"examples", &e.examples, at_least(0), "Prompts shown side by side in the report."}}};
}

Section describe(Distributed& d) {
  return {.name = "distributed",
          .meaning = "How the work is divided over ranks.",
          .keys = {{"sharding", &d.sharding, at_least(1).at_most(3), "ZeRO stage; only stage 1 so far."},
                   {"reproducible", &d.reproducible, anything(),
                    "The same bits on any number of ranks, for a little time."},
                   {"micro_batch_prompts", &d.micro_batch_prompts, at_least(1),
                    "Prompts that are sampled and trained on together: the unit of work, and of memory."},
                   {"threads", &d.threads, at_least(1), "Processor threads of each rank."}}};
}

Section describe(Checkpoint& c) {
  return {.name = "checkpoint",
          .meaning = "From which a stopped run goes on.",
          .keys = {{"every", &c.every, at_least(1), "Steps between checkpoints."},
                   {"keep", &c.keep, at_least(1), "How many of the latest are kept, for each variant."}}};
}

}  // namespace

Section describe(Variant& variant) {
  Section section{.name = "",
                  .meaning = "",
                  .keys = {{"name", &variant.name, anything(),
                            "Names the variant's folders and curves; default: its transform."}},
                  .alternatives = {"beta", "target_kl"}};
  for (Key& key : variant_keys(variant)) section.keys.push_back(std::move(key));
  return section;
}

Section describe(Experiment& e) {
  Section root{
      .name = "",
      .meaning = "",
      .keys = {{"name", &e.name, required(), "Names the run in its report."},
               {"seed", &e.seed, anything(), "Of every random number of the run."},
               {"output", &e.output, required(), "Folder of everything the run writes."},
               {"stages", &e.stages, required_one_of(stage_names()), "What the run does, in this order."},
               {"device", &e.device, one_of({"auto", "cpu", "cuda"}), "Where it computes."}}};
  root.sections.push_back(describe(e.model));
  if (e.finetune) root.sections.push_back(describe(*e.finetune));
  if (e.reward) {
    root.sections.push_back(
        describe("reward", "Optional: training a reward model from preferences (Bradley-Terry).", *e.reward));
  }
  if (e.judge) {
    root.sections.push_back(
        describe("judge", "Optional: training, in the reward stage too, a second reward model to judge with.",
                 *e.judge));
  }
  root.sections.push_back(describe(e.prompts));
  root.sections.push_back(describe(e.sampling));
  root.sections.push_back(describe(e.inference));
  root.sections.push_back(describe(e.calibration));
  root.sections.push_back(describe(e.alignment));
  root.sections.push_back(describe(e.evaluation));
  root.sections.push_back(describe(e.distributed));
  root.sections.push_back(describe(e.checkpoint));
  return root;
}

Experiment with_every_section() {
  Experiment experiment;
  experiment.finetune.emplace();
  experiment.reward.emplace();
  experiment.judge.emplace();
  return experiment;
}

}  // namespace infalign::experiment
