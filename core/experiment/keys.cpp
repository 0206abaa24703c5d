#include "core/experiment/keys.h"

#include <algorithm>
#include <iterator>

#include "core/alignment/procedures.h"
#include "core/alignment/transform.h"

namespace infalign::experiment {
namespace {

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

/// The one vocabulary for sequences that are longer than they may be.
Rule too_long_choices() { return one_of({"error", "drop", "truncate_left"}); }

/// Where a reward model reads.
Rule read_at_choices() { return one_of({"as_saved", "last_token", "stop_token"}); }

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

Section describe(Lora& l) {
  return {
      .name = "lora",
      .meaning =
          "Training an adapter of low rank in the place of the model's own weights (LoRA; "
          "[how](lora.md)).",
      .keys = {{"rank", &l.rank, at_least(0), "Of the adapter's matrices; 0: none, all weights are trained."},
               {"alpha", &l.alpha, above(0), "The adapter counts alpha / rank times; none: 2 x rank."},
               {"targets", &l.targets, anything(),
                "The modules that are adapted, by the names of the model's family (q_proj, v_proj, ...); "
                "all-linear: every matrix of the layers."}}};
}

Section describe(const std::string& name, const std::string& meaning, RewardChoice& r) {
  const bool is_short = r.models.size() <= 1 && r == RewardChoice{.models = r.models};
  return {.name = name,
          .meaning = meaning,
          .keys = {{"models", &r.models, anything(),
                    "Folders with a score head. A path or list of paths in the section's place stands for "
                    "this key. Give this or command."},
                   {"combine", &r.combine, one_of({"mean", "minimum", "lower_bound"}),
                    "What several models make of their rewards; lower_bound: mean - kappa x standard "
                    "deviation over the models."},
                   {"kappa", &r.kappa, at_least(0), "Of lower_bound."},
                   {"read_at", &r.read_at, read_at_choices(),
                    "Of models: the reward is read at a response's last token, or at a stop token put behind "
                    "every response; as_saved: as the model's folder says, or else last_token "
                    "([rewards](rewards.md))."},
                   {"command", &r.command, program(),
                    "A program and its arguments that reads JSON lines of prompts and responses and writes "
                    "rewards ([rewards](rewards.md)). Give this or models."},
                   {"timeout", &r.timeout, above(0),
                    "Of command: seconds it may take for the responses to one prompt, its start included."},
                   {"restarts", &r.restarts, at_least(0),
                    "Of command: how often it is started again, for one prompt, after it ended or took too "
                    "long."}},
          .alternatives = {"models", "command"},
          .shorthand = "models",
          .is_short = is_short};
}

Section describe(Model& m) {
  Section section{
      .name = "model",
      .meaning = "The models a run starts from, as Hugging Face folders, and where rewards come from.",
      .keys = {
          {"reference", &m.reference, anything(),
           "The reference policy: training starts from it and the KL divergence is measured to it."},
          {"chat_template", &m.chat_template, anything(),
           "How prompts and preferences given as lists of messages are written: a built-in format (chatml, "
           "gemma, llama2, llama3, mistral, phi3, transcript, zephyr) or a file that ends in .jinja; none: "
           "the template that comes with the model."}}};
  section.sections = {
      describe("reward", "Where rewards come from; none: from the model that the reward stage makes.",
               m.reward),
      describe("judge", "Other rewards, which decide who wins at evaluation; none: the reward does.",
               m.judge),
      describe("reranker",
               "Other rewards, by which the procedure selects among its candidates; none: those trained on.",
               m.reranker)};
  return section;
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
  section.sections.push_back(describe(f.lora));
  return section;
}

Section describe(const std::string& name, const std::string& meaning, Reward& r) {
  Section section{
      .name = name,
      .meaning = meaning,
      .keys = {
          {"preferences", &r.preferences, required(),
           "JSON lines of {\"prompt\", \"chosen\", \"rejected\"}, as texts or messages, or HH-RLHF "
           "transcripts "
           "({\"chosen\", \"rejected\"}), which the model's chat template writes; plain or gzip."},
          {"backbone", &r.backbone, anything(),
           "Folder of the model that gets the score head; none: where the policy starts."},
          {"layers", &r.layers, at_least(0),
           "Only the first so many layers of it, which makes a smaller and quicker reward model; 0: all."},
          {"part", &r.part, one_of({"all", "first_half", "second_half"}),
           "Which of the pairs: halves (by a hash of the prompt) let reward and judge learn from different "
           "ones."},
          {"epochs", &r.epochs, at_least(1), "Passes over the pairs."},
          {"pairs_per_step", &r.pairs_per_step, at_least(1), "Pairs in each step, over all ranks."},
          {"max_tokens", &r.max_tokens, at_least(2), "Longest sequence, prompt and answer together."},
          {"too_long", &r.too_long, too_long_choices(),
           "What becomes of pairs with a longer one: refused, left out, or without their beginning; "
           "counted."},
          {"read_at", &r.read_at, read_at_choices(),
           "The model is read at an answer's last token, or at a stop token put behind every answer, here "
           "and in use: the choice where many responses meet the length limit; as_saved: as the backbone's "
           "folder says, or else last_token ([rewards](rewards.md))."},
          {"heldout_fraction", &r.heldout_fraction, at_least(0).below(1),
           "Share of the pairs kept aside to measure the accuracy: all pairs of a prompt, by a hash of its "
           "text."},
          {"margin", &r.margin, at_least(0),
           "The loss is -log sigmoid(r(chosen) - r(rejected) - margin); a number `margin` in a pair's line "
           "takes its place."},
          {"centre_rewards", &r.centre_rewards, at_least(0),
           "Times (r(chosen) + r(rejected))^2 is added to the loss, which keeps the rewards near 0; TRL's "
           "center_rewards_coefficient."}}};
  append(section.keys, r.optimizer);
  section.keys.push_back(
      {"seed_offset", &r.seed_offset, anything(),
       "Added to the seed: another initialisation and order, so that a judge errs differently."});
  section.sections.push_back(describe(r.lora));
  return section;
}

Section describe(Prompts& p) {
  return {
      .name = "prompts",
      .meaning =
          "What the policy is asked: JSON lines of {\"prompt\"}, a text or messages, or preferences, of "
          "which the prompts are taken (HH-RLHF transcripts too); plain or gzip. Of equal prompts one "
          "is kept.",
      .keys = {
          {"train", &p.train, anything(), "Prompts to calibrate and align on."},
          {"heldout", &p.heldout, anything(),
           "Prompts to evaluate on; those that are in train too are not trained on."},
          {"heldout_fraction", &p.heldout_fraction, at_least(0).below(1),
           "In the place of heldout: this share of train, by a hash of the text. Prompts that are held out "
           "here are among those that reward.heldout_fraction keeps from the reward model if it is as "
           "large."},
          {"max_train", &p.max_train, at_least(0), "Only the first so many of them; 0: all."},
          {"max_heldout", &p.max_heldout, at_least(0), "Only the first so many of them; 0: all."},
          {"max_tokens", &p.max_tokens, at_least(0),
           "Longest prompt; 0: what the model's context leaves beside the longest response."},
          {"too_long", &p.too_long, too_long_choices(),
           "What becomes of longer ones: refused, left out, or without their beginning; counted."}}};
}

Section describe(Sampling& s) {
  return {
      .name = "sampling",
      .meaning = "How responses are drawn, in calibration, training and evaluation alike.",
      .keys = {{"temperature", &s.temperature, above(0), "Divides the logits; the KL is that of the result."},
               {"top_p", &s.top_p, above(0).at_most(1), "Nucleus sampling; alignment needs 1."},
               {"max_new_tokens", &s.max_new_tokens, at_least(1), "The longest response."}}};
}

std::vector<Key> procedure_keys(ProcedureChoice& p) {
  return {
      {"procedure", &p.procedure, one_of(alignment::procedure_names()),
       "How the answer is chosen; `infalign design --help` and docs/adding-a-procedure.md tell of each."},
      {"n", &p.n, at_least(1), "N, the number of candidates; 1 for standard, 2 or more for most others."},
      {"k", &p.k, at_least(1), "Of kth_of_n: which, counted from the smallest."},
      {"strength", &p.strength, above(0), "Of soft_best_of_n: lambda in e^(lambda x own rank)."},
      {"weights", &p.weights, at_least(0), "Of best_of_random_n: the shares of N = 1, 2, ..."},
      {"quantile", &p.quantile, at_least(0).below(1),
       "Of above_quantile: the share of the candidates that is dropped."},
      {"threshold", &p.threshold, anything(), "Of retry_until: the selecting reward that is good enough."}};
}

Section describe(Inference& i) {
  Section section{.name = "inference",
                  .meaning = "How answers will be drawn in production: what the policy is aligned for.",
                  .keys = procedure_keys(i)};
  section.keys.push_back({"value", &i.value, one_of({"win_rate", "reward"}),
                          "What an answer is worth: a win against the opponent's, or its own reward (a "
                          "verifier's verdict; pass_at_n always)."});
  section.keys.push_back(
      {"answer", &i.answer, anything(),
       "Of majority_vote: regular expression; its last match in a response is what is voted on."});
  if (i.opponent) {
    section.sections.push_back(
        {.name = "opponent",
         .meaning = "Optional: how the reference's answers are drawn, if not like the policy's.",
         .keys = procedure_keys(*i.opponent)});
  }
  Section mixture{.name = "mixture",
                  .meaning =
                      "Optional, in the place of the one procedure: several, each with its share of the "
                      "production. An entry inherits the section's keys.",
                  .is_list = true};
  for (ProcedureChoice& choice : i.mixture) mixture.sections.push_back(describe(choice));
  section.sections.push_back(std::move(mixture));
  return section;
}

Section describe(Synthetic& s) {
  return {.name = "synthetic",
          .meaning =
              "Optional, in the place of models and prompts: a policy over tables of responses with given "
              "rewards, trained by the same stages, whose optimum is known in closed form.",
          .keys = {{"prompts", &s.prompts, at_least(1), "Tables."},
                   {"responses", &s.responses, at_least(2), "Responses in each."},
                   {"rewards", &s.rewards, one_of({"normal", "uniform", "heavy", "levels", "verifier"}),
                    "Their distribution; heavy: Cauchy; levels: few distinct ones; verifier: 1 or 0."},
                   {"levels", &s.levels, at_least(2), "Of levels: distinct rewards, so that there are ties."},
                   {"pass_rate", &s.pass_rate, above(0).below(1),
                    "Of verifier: the mean share of responses that pass."},
                   {"scale_spread", &s.scale_spread, at_least(0),
                    "Each prompt's rewards are multiplied by e^(spread z), z normal,"},
                   {"offset_spread", &s.offset_spread, at_least(0), "and moved by spread z."},
                   {"answers", &s.answers, at_least(0),
                    "Distinct answers to vote on, 2 or more, or 0 for none; a verifier passes the first."}}};
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
           "Of hierarchical: how many rollouts the pooled distribution counts for; none: estimated from how "
           "much the prompts differ."},
          {"fresh", &c.fresh, anything(),
           "Align on new rollouts at each visit of a prompt rather than on those of calibration.h5."},
          {"reuse", &c.reuse, anything(), "calibration.h5 of an earlier run, in place of sampling anew."}}};
}

/// What the alignment section shares with its variants.
std::vector<Key> variant_keys(Variant& v) {
  std::vector<Key> keys = {
      {"transform", &v.transform, one_of(alignment::transform_names()),
       "Phi, what the calibrated reward is turned into; optimal: the fixed point for the procedure and "
       "beta."},
      {"exponent", &v.exponent, anything(),
       "Of exponential: t in exp(t C), negative for worst_of_n; 0: 2.5 n with the procedure's sign."},
      {"debiased", &v.debiased, anything(),
       "Of exponential: without the bias that few rollouts give exp(t C)."},
      {"cut", &v.cut, at_least(0).below(1), "Of truncated: max(C - cut, 0)."},
      {"points", &v.points, anything(),
       "Of points: u, Phi(u), u, Phi(u), ... from u = 0 to u = 1, joined by a monotone cubic."},
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
       "The run fails if sampler and trainer disagree on a log-probability by more, in nats; null: 1e-4, and "
       "0.5 where dtype is bfloat16 (30 layers of it were seen to differ by up to 0.2)."},
      {"max_skipped_steps", &a.max_skipped_steps, at_least(0),
       "The run fails after so many steps skipped for a gradient that was not finite."}};
  const auto after_target = std::ranges::find(section.keys, "target_kl", &Key::name) + 1;
  section.keys.insert(after_target, own.begin(), own.end());
  section.sections.push_back(describe(a.shared.lora));

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

Section describe(Export& e) {
  return {
      .name = "export",
      .meaning = "What the export stage writes.",
      .keys = {{"lora", &e.lora, one_of({"merged", "adapter"}),
                "Of a policy that was trained as an adapter: a model folder with the adapter added to its "
                "weights, or a folder of the adapter alone, as PEFT loads it."}}};
}

Section describe(Memory& m) {
  const auto stored = [](const std::string& name, std::string& field, const std::string& meaning) {
    return Key{name, &field, one_of({"float32", "bfloat16"}), meaning};
  };
  return {
      .name = "memory",
      .meaning = "What memory is saved, at the cost of time or of digits ([how](memory.md)).",
      .keys = {{"recompute_activations", &m.recompute_activations, anything(),
                "Whether training keeps only the input of each block and computes the block once more for "
                "its gradient: the same bits, for up to a third more work."},
               stored("reference", m.reference, "In what the reference's weights are held."),
               stored("reward", m.reward, "The same of the reward models."),
               stored("judge", m.judge, "The same of the judges."),
               stored("reranker", m.reranker, "The same of the rerankers."),
               stored("policy", m.policy,
                      "In what passes read a model that is trained whole, in every stage that trains. "
                      "bfloat16: a copy, made after each step of float32 parameters that ranks have "
                      "divided among them as `distributed.sharding` does the optimizer's moments. An adapter "
                      "is trained in float32, on the weights of what it is added to."),
               {"stochastic_rounding", &m.stochastic_rounding, anything(),
                "Whether that copy is rounded up or down at random, right on average; false: to the "
                "nearest. What training starts from and what is evaluated are rounded to the nearest."}}};
}

Section describe(Distributed& d) {
  return {
      .name = "distributed",
      .meaning = "How the work is divided over ranks.",
      .keys = {
          {"sharding", &d.sharding, at_least(0).at_most(3),
           "What is divided among ranks instead of held by each (ZeRO stages): 0 nothing, 1 the "
           "optimizer's moments, 2 gradients too, 3 parameters too: of all models, a layer gathered when its "
           "turn comes. The result is the same."},
          {"shard_ranks", &d.shard_ranks, at_least(0),
           "With `sharding: 3`: so many ranks that follow one another, those of a host as a rule, hold one "
           "copy of the parameters among them, and the next ones another (hybrid sharding); 0: all hold one. "
           "It divides the number of ranks, or is no less. On GPUs these ranks are on one machine."},
          {"reproducible", &d.reproducible, anything(),
           "The same bits on any number of ranks, for a little time."},
          {"micro_batch_prompts", &d.micro_batch_prompts, at_least(1),
           "Prompts that are sampled and trained on together: the unit of work, and of memory."},
          {"threads", &d.threads, at_least(1), "Processor threads of each rank."},
          {"watchdog_seconds", &d.watchdog_seconds, at_least(0),
           "A rank that gives no sign of life, or does not get on while others wait for it, for so "
           "long ends all ranks with a message, and so do ranks that have not met so long after their start "
           "(at least 30 s); 0: none watches."}}};
}

Section describe(Checkpoint& c) {
  return {.name = "checkpoint",
          .meaning = "From which a stopped run goes on.",
          .keys = {{"every", &c.every, at_least(1), "Steps between checkpoints."},
                   {"keep", &c.keep, at_least(1), "How many of the latest are kept, for each variant."},
                   {"keep_every", &c.keep_every, at_least(0),
                    "Besides, those of every so many steps are kept for good, a multiple of every; 0: none."},
                   {"use_older", &c.use_older, anything(),
                    "Where the newest checkpoint is damaged, go on from the one before it; false: stop and "
                    "name what is damaged."},
                   {"time_limit", &c.time_limit, above(0),
                    "Minutes from the start of the job by which the run has stopped with a checkpoint and "
                    "exit code 75; null: Slurm's limit under Slurm, else none."}}};
}

}  // namespace

Section describe(Variant& variant) {
  Section section{.name = "",
                  .meaning = "",
                  .keys = {{"name", &variant.name, anything(),
                            "Names the variant's folders and curves; default: its transform."}},
                  .alternatives = {"beta", "target_kl"}};
  for (Key& key : variant_keys(variant)) section.keys.push_back(std::move(key));
  section.sections.push_back(describe(variant.lora));
  return section;
}

Section describe(ProcedureChoice& choice) {
  Section section{
      .name = "",
      .meaning = "",
      .keys = {{"share", &choice.share, above(0), "Of the production; the shares are made to sum to 1."}}};
  for (Key& key : procedure_keys(choice)) section.keys.push_back(std::move(key));
  return section;
}

Section describe(Experiment& e) {
  Section root{
      .name = "",
      .meaning = "",
      .keys = {
          {"name", &e.name, required(), "Names the run in its report."},
          {"seed", &e.seed, anything(), "Of every random number of the run."},
          {"output", &e.output, required(), "Folder of everything the run writes."},
          {"stages", &e.stages, required_one_of(stage_names()), "What the run does, in this order."},
          {"device", &e.device, one_of({"auto", "cpu", "cuda"}),
           "Where it computes: `cuda` a GPU for each rank, `cpu`, or `auto`, GPUs where every rank finds one "
           "of its own."},
          {"dtype", &e.dtype, one_of({"float32", "bfloat16"}),
           "In what the factors of matrix products are; sums, weights and all else are float32, but for a "
           "GPU's "
           "activations between products and its cache, which are stored so. On a CPU bfloat16 needs AVX-512 "
           "BF16 or AMX."}}};
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
  if (e.synthetic) root.sections.push_back(describe(*e.synthetic));
  root.sections.push_back(describe(e.prompts));
  root.sections.push_back(describe(e.sampling));
  root.sections.push_back(describe(e.inference));
  root.sections.push_back(describe(e.calibration));
  root.sections.push_back(describe(e.alignment));
  root.sections.push_back(describe(e.evaluation));
  root.sections.push_back(describe(e.exported));
  root.sections.push_back(describe(e.memory));
  root.sections.push_back(describe(e.distributed));
  root.sections.push_back(describe(e.checkpoint));
  return root;
}

Experiment with_every_section() {
  Experiment experiment;
  experiment.finetune.emplace();
  experiment.reward.emplace();
  experiment.judge.emplace();
  experiment.synthetic.emplace();
  experiment.inference.opponent.emplace();
  return experiment;
}

}  // namespace infalign::experiment
