// The experiment: one YAML file, read and validated whole, as one immutable value. This is the only room that
// knows yaml-cpp. Everything that can be found wrong without touching MPI, a GPU or a model is found here,
// all problems at once, each with file, line, key path and what would be right. The fields' YAML keys are
// their names; their ranges and meanings stand in keys.cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace infalign::experiment {

enum class Stage { kFinetune, kReward, kCalibrate, kAlign, kEvaluate, kReport, kExport };
std::string stage_name(Stage stage);
/// All stages in the order in which a run goes through them.
const std::vector<Stage>& all_stages();

/// AdamW with warm-up and decay; shared by every stage that trains.
struct OptimizerSettings {
  double learning_rate = 1e-4;
  std::string schedule = "constant";  // constant | linear | cosine (to final_learning_rate_fraction)
  double final_learning_rate_fraction = 0.1;
  std::int64_t warmup_steps = 0;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0;
  double max_gradient_norm = 1.0;  // 0: no clipping

  bool operator==(const OptimizerSettings&) const = default;
};

/// `lora:` in a section that trains: an adapter of low rank is trained in the place of the model's own
/// weights.
struct Lora {
  std::int64_t rank = 0;        // 0: none
  std::optional<double> alpha;  // none: 2 x rank
  std::vector<std::string> targets = {"all-linear"};

  bool enabled() const { return rank > 0; }
  bool operator==(const Lora&) const = default;
};

/// Where rewards come from: folders with a score head, combined if there are several, or a program. In a file
/// a path or a list of paths stands for `models` alone.
struct RewardChoice {
  std::vector<std::filesystem::path> models;
  std::string combine = "mean";  // mean | minimum | lower_bound (mean - kappa * standard deviation)
  double kappa = 1;
  std::vector<std::string> command = {};  // program and arguments; arguments that name a file are absolute
  double timeout = 300;                   // seconds for the responses to one prompt
  std::int64_t restarts = 2;              // of the program, for each prompt
  std::string read_at = "as_saved";       // last_token | stop_token | as_saved: as each model's folder says

  bool empty() const { return models.empty() && command.empty(); }
  bool operator==(const RewardChoice&) const = default;
};

struct Model {
  std::filesystem::path reference;  // Hugging Face folder; "" only when finetune starts from scratch
  RewardChoice reward;              // none when the reward stage makes it
  RewardChoice judge;               // none: the reward model judges
  RewardChoice reranker;            // none: the reward model selects among the procedure's candidates
  std::string chat_template;        // a built-in format or the path of a Jinja file; "" : the model's own

  bool operator==(const Model&) const = default;
};

/// `finetune:` next-token training on packed text.
struct Finetune {
  std::filesystem::path text;  // documents separated by blank lines or <|endoftext|>, or .jsonl of {"text"}
  std::filesystem::path
      initial;  // config.json and tokenizer; weights too unless from_scratch; "" : model.reference
  bool from_scratch = false;
  std::int64_t steps = 1000, sequences_per_step = 16, sequence_length = 256;
  double heldout_fraction = 0.02;
  OptimizerSettings optimizer;
  Lora lora;

  bool operator==(const Finetune&) const = default;
};

/// `reward:` Bradley-Terry training from preferences.
struct Reward {
  std::filesystem::path preferences;
  std::filesystem::path backbone;  // folder; "" : where the policy starts
  std::int64_t layers = 0;         // of the backbone: only its first so many; 0: all
  std::string part = "all";        // all | first_half | second_half of the pairs (by hash of the pair)
  std::int64_t epochs = 1, pairs_per_step = 32;
  std::int64_t max_tokens = 256;
  std::string too_long = "truncate_left";  // error | drop | truncate_left: what is longer than max_tokens
  std::string read_at = "as_saved";        // last_token | stop_token, which then closes every answer
  double heldout_fraction = 0.1;
  double margin = 0, centre_rewards = 0;  // stages::PairLoss
  OptimizerSettings optimizer;
  Lora lora;
  std::uint64_t seed_offset = 0;  // another initialisation for a judge

  bool operator==(const Reward&) const = default;
};

struct Prompts {
  std::filesystem::path train, heldout;
  double heldout_fraction = 0;                  // of train, by a hash of the text; in the place of heldout
  std::int64_t max_train = 0, max_heldout = 0;  // 0: all
  std::int64_t max_tokens = 0;                  // 0: what the context leaves beside the longest response
  std::string too_long = "error";               // error | drop | truncate_left

  /// Whether there is anything to evaluate on.
  bool holds_out() const { return !heldout.empty() || heldout_fraction > 0; }
  bool operator==(const Prompts&) const = default;
};

struct Sampling {
  double temperature = 1, top_p = 1;
  std::int64_t max_new_tokens = 16;

  bool operator==(const Sampling&) const = default;
};

/// How one side draws its answers (alignment::ProcedureSettings).
struct ProcedureChoice {
  std::string procedure = "standard";
  std::int64_t n = 1;
  std::int64_t k = 1;           // kth_of_n
  double strength = 4;          // soft_best_of_n
  std::vector<double> weights;  // best_of_random_n
  double quantile = 0.75;       // above_quantile
  double threshold = 0;         // retry_until
  double share = 1;             // in a mixture

  bool operator==(const ProcedureChoice&) const = default;
};

struct Inference : ProcedureChoice {
  std::string value = "win_rate";           // win_rate | reward: what an answer is worth
  std::string answer;                       // regular expression whose match is the answer that is voted on
  std::optional<ProcedureChoice> opponent;  // of the reference's side; none: the policy's
  std::vector<ProcedureChoice> mixture;     // in the place of the one procedure

  bool operator==(const Inference&) const = default;
};

/// `synthetic:` in the place of models and prompts: a policy over tables of responses with given rewards,
/// whose optimum is known.
struct Synthetic {
  std::int64_t prompts = 64, responses = 256;
  std::string rewards = "normal";  // normal | uniform | heavy | levels | verifier
  std::int64_t levels = 5;         // levels: distinct rewards, so that there are ties
  double pass_rate = 0.2;          // verifier: mean share of responses with reward 1
  double scale_spread = 0;         // each prompt's rewards times e^(spread z), z standard normal
  double offset_spread = 0;        // and plus spread z
  std::int64_t answers = 0;        // distinct answers to vote on; 0: none

  bool operator==(const Synthetic&) const = default;
};

struct Calibration {
  std::string mode = "prompt";            // prompt | global | hierarchical
  std::int64_t rollouts_per_prompt = 64;  // K
  bool exact_quantiles = true;            // the second pass
  std::optional<double> prior_strength;   // hierarchical; none: estimated
  bool fresh = false;                     // align: K new rollouts at each visit of a prompt
  std::filesystem::path reuse;            // calibration.h5 of another run; "" : none

  bool operator==(const Calibration&) const = default;
};

struct Variant {
  std::string name;
  std::string transform = "optimal";
  double exponent = 0;         // exponential; 0 in the file: 2.5 N (negative for worst_of_n); resolved here
  bool debiased = false;       // exponential
  double cut = 0.5;            // truncated
  std::vector<double> points;  // points
  std::optional<double> beta;  // exactly one of beta and target_kl
  std::optional<double> target_kl;
  OptimizerSettings optimizer;  // the alignment's, unless overridden
  Lora lora;                    // likewise

  bool operator==(const Variant&) const = default;
};

struct Alignment {
  std::string objective = "reinforce";
  std::int64_t steps = 120, prompts_per_step = 32, samples_per_prompt = 32;
  std::optional<double> max_sampler_trainer_gap;  // see Experiment::max_sampler_trainer_gap
  std::int64_t max_skipped_steps = 10;
  Variant shared;  // what the section itself says and variants inherit; nameless, never trained
  std::vector<Variant>
      variants;  // at least one; without `variants` in the file one, named after its transform

  bool operator==(const Alignment&) const = default;
};

struct Evaluation {
  std::int64_t samples_per_prompt = 32;  // M
  std::int64_t examples = 5;             // prompts shown side by side in the report

  bool operator==(const Evaluation&) const = default;
};

struct Memory {
  bool recompute_activations = false;
  // In what the weights of models that are never trained are held: float32 | bfloat16.
  std::string reference = "float32", reward = "float32", judge = "float32", reranker = "float32";
  std::string policy = "float32";    // the same of what passes read of a model that is trained whole
  bool stochastic_rounding = false;  // of that, in bfloat16

  bool operator==(const Memory&) const = default;
};

struct Export {
  std::string lora = "merged";  // merged | adapter: what is written of a policy that is an adapter

  bool operator==(const Export&) const = default;
};

struct Distributed {
  std::int64_t sharding = 1;     // ZeRO stage: 0 nothing, 1 moments, 2 gradients too, 3 parameters too
  std::int64_t shard_ranks = 0;  // stage 3: ranks that hold one copy of the parameters; 0: all
  bool reproducible = true;
  std::int64_t micro_batch_prompts = 4;
  std::int64_t threads = 1;      // per rank
  double watchdog_seconds = 60;  // 0: none

  bool operator==(const Distributed&) const = default;
};

struct Checkpoint {
  std::int64_t every = 20, keep = 2;
  std::int64_t keep_every = 0;       // steps; 0: none is kept for good
  bool use_older = false;            // in the place of a damaged one
  std::optional<double> time_limit;  // minutes from the job's start; none: Slurm's, where it tells one

  bool operator==(const Checkpoint&) const = default;
};

struct Experiment {
  std::string name;
  std::uint64_t seed = 1;
  std::filesystem::path output;
  std::vector<Stage> stages;
  std::string device = "auto";    // auto | cpu | cuda
  std::string dtype = "float32";  // of the factors of matrix products: float32 | bfloat16
  Model model;
  std::optional<Finetune> finetune;
  std::optional<Reward> reward;
  std::optional<Reward> judge;  // `judge:` a second reward model trained like the first
  std::optional<Synthetic> synthetic;
  Prompts prompts;
  Sampling sampling;
  Inference inference;
  Calibration calibration;
  Alignment alignment;
  Evaluation evaluation;
  Export exported;
  Memory memory;
  Distributed distributed;
  Checkpoint checkpoint;

  std::string yaml;                   // the resolved configuration: every key with its value, paths absolute
  std::vector<std::string> warnings;  // "FILE:LINE: key.path: ..." each: allowed, but hardly meant

  bool operator==(const Experiment&) const = default;

  bool runs(Stage stage) const;

  // Where a run reads and writes its own files.

  /// What the finetune stage writes.
  std::filesystem::path finetuned_folder() const;
  /// The policy before alignment, and the reference: the finetuned folder if this run makes it, else
  /// model.reference.
  std::filesystem::path policy_start() const;
  /// What a reward model grows from: its own backbone, else policy_start().
  std::filesystem::path backbone(const Reward& trained) const;
  /// Where the reward stage writes: the one folder of model.reward, else below `output`.
  std::filesystem::path reward_folder() const;
  /// The like of model.judge; "" where there is neither a folder nor a `judge:` section.
  std::filesystem::path judge_folder() const;
  /// alignment.max_sampler_trainer_gap, else what rounding of this dtype may explain.
  double max_sampler_trainer_gap() const {
    return alignment.max_sampler_trainer_gap.value_or(dtype == "bfloat16" ? 0.5 : 1e-4);
  }
  /// model.reward, else what the reward stage writes.
  RewardChoice reward_source() const;
  /// model.judge, else what the reward stage writes if there is a `judge:` section, else none.
  RewardChoice judge_source() const;
  std::filesystem::path checkpoint_folder(const std::string& variant) const;
  std::filesystem::path policy_folder(const std::string& variant) const;
  std::filesystem::path calibration_path() const;
  std::filesystem::path metrics_path() const;
  std::filesystem::path evaluation_path() const;
  std::filesystem::path report_path() const;
};

/// Reads a configuration. Relative paths are relative to the file; `${NAME}` and `${NAME:-default}` in a
/// value are environment variables. `overrides` are "key.path=value", the value in YAML, entries of a list by
/// their index. Errors: ConfigurationError whose text has one line per problem: "FILE:LINE: key.path: what is
/// wrong; what would be right", with "--set key.path" in the place of file, line and path for an override.
/// `only`: that one stage is to be run, which the file has to name too.
Experiment load_experiment(const std::filesystem::path& file, const std::vector<std::string>& overrides = {},
                           std::optional<Stage> only = std::nullopt);

/// Every key with its type, default and meaning, in Markdown: the text of docs/configuration.md.
std::string configuration_reference();

}  // namespace infalign::experiment
