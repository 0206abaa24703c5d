#include "core/stages/plan.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <numeric>

#include "core/alignment/sketch.h"
#include "core/model/cost.h"
#include "core/model/generation.h"
#include "core/model/parameters.h"
#include "core/model/transformer.h"
#include "core/stages/adapter_folder.h"
#include "core/stages/closing_token.h"
#include "core/stages/evaluate.h"
#include "core/stages/model_folder.h"
#include "core/stages/precision.h"
#include "core/stages/preference_pairs.h"
#include "core/stages/prompt_set.h"
#include "core/stages/run.h"
#include "core/stages/shuffle.h"
#include "core/stages/trainee.h"
#include "core/text/records.h"
#include "distributed/sharded_optimizer.h"

namespace infalign::stages {
namespace {

using experiment::Stage;
using kernels::Use;
using model::Keep;
using model::Pass;

constexpr std::int64_t kFloat = sizeof(float);
// What Open MPI has in use once it is initialised on one host.
constexpr std::int64_t kMpiBytes = 10 << 20;

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::vector<std::int64_t> first_items(std::int64_t n) {
  std::vector<std::int64_t> items(static_cast<std::size_t>(n));
  std::iota(items.begin(), items.end(), 0);
  return items;
}

/// The prompts of the micro-batches of a stage: what they add up to, and the most that one of them needs.
struct PromptLoad {
  std::int64_t visits = 0;
  std::int64_t batch_prompts = 0, batch_tokens = 0, longest = 0;  // most in a micro-batch
  std::vector<std::int64_t> visits_of_length;                     // [length]
};

class Planner {
 public:
  Planner(const experiment::Experiment& e, int ranks) : e_(e) {
    require_ranks(e, ranks);
    plan_.ranks = ranks;
    const bool finds_gpu = e.device == "auto" && kernels::cuda_device_count() > 0;
    if (e.device == "cuda" || finds_gpu) plan_.device = kernels::Device::kCuda;
    describe_models();
  }

  Plan plan() {
    const bool prompts = e_.runs(Stage::kCalibrate) || e_.runs(Stage::kAlign) || e_.runs(Stage::kEvaluate);
    if (prompts) read_prompts();
    for (const auto stage : e_.stages) {
      if (stage == Stage::kFinetune) finetune();
      if (stage == Stage::kReward && e_.reward) reward("reward", *e_.reward);
      if (stage == Stage::kReward && e_.judge) reward("judge", *e_.judge);
      if (stage == Stage::kCalibrate) calibrate();
      if (stage == Stage::kAlign) align();
      if (stage == Stage::kEvaluate) evaluate();
      if (stage == Stage::kExport) export_policies();
    }
    return std::move(plan_);
  }

 private:
  // The models.

  /// The folder that is there before the run and describes what will be in `folder`.
  std::filesystem::path described_by(const std::filesystem::path& folder) const {
    return e_.finetune && folder == e_.finetuned_folder() ? e_.finetune->initial : folder;
  }

  static std::int64_t parameters(const model::ModelConfig& config) {
    return model::ParameterLayout(config).size();
  }

  model::ModelConfig add_model(const std::string& role, const std::filesystem::path& folder, bool made,
                               const experiment::Reward* grows_from_it = nullptr) {
    auto config = read_model_config(folder, grows_from_it ? grows_from_it->layers : 0);
    if (grows_from_it) config = as_reward_model(config);
    plan_.models.push_back({role, folder, made, config, parameters(config)});
    return config;
  }

  /// The models behind a source of rewards: none of a program, or where there is no such source.
  using Scorers = std::vector<model::ModelConfig>;

  Scorers add_scorers(const std::string& role, const std::optional<experiment::Reward>& trained,
                      const experiment::RewardChoice& choice) {
    const auto count_closing = [&](const std::filesystem::path& folder, const std::string& read_at) {
      if (reads_at_stop_token(description_folder(folder), read_at)) closing_tokens_ = 1;
    };
    if (choice.empty() && trained) {
      const auto folder = described_by(e_.backbone(*trained));
      count_closing(folder, trained->read_at);
      return {add_model(role, folder, true, &*trained)};
    }
    const bool needed = e_.runs(Stage::kCalibrate) || e_.runs(Stage::kAlign) || e_.runs(Stage::kEvaluate);
    Scorers scorers;
    for (std::size_t i = 0; needed && i < choice.models.size(); ++i) {
      const auto number = choice.models.size() > 1 ? " " + std::to_string(i + 1) : "";
      scorers.push_back(add_model(role + number, choice.models[i], false));
      count_closing(choice.models[i], choice.read_at);
    }
    return scorers;
  }

  void describe_models() {
    const auto start = described_by(e_.policy_start());
    policy_ = add_model("policy", start, start != e_.policy_start());
    reward_ = add_scorers("reward", e_.reward, e_.model.reward);
    judge_ = add_scorers("judge", e_.judge, e_.model.judge);
    reranker_ = add_scorers("reranker", std::nullopt, e_.model.reranker);
  }

  // The prompts.

  void read_prompts() {
    const auto folder = described_by(e_.policy_start());
    const auto described = description_folder(folder);
    const auto tokenizer = text::Tokenizer::load(described);
    const auto chat = [&] { return text::ChatTemplate::load(described, e_.model.chat_template); };
    const auto sets =
        read_prompt_sets(e_.prompts, tokenizer, chat, policy_.max_positions, e_.sampling.max_new_tokens);
    const auto lengths = [](const PromptSet& set) {
      std::vector<std::int64_t> tokens;
      for (const auto& prompt : set.tokens) tokens.push_back(std::ssize(prompt));
      return tokens;
    };
    train_ = lengths(sets.train);
    heldout_ = lengths(sets.heldout);
    for (const auto& text : sets.train.text) prompt_text_bytes_ += std::ssize(text);
    plan_.notes = sets.notes;
  }

  void add_to(PromptLoad& load, const std::vector<std::int64_t>& lengths,
              std::span<const std::int64_t> prompts) const {
    for (const auto& batch : micro_batches(prompts, e_.distributed.micro_batch_prompts)) {
      std::int64_t tokens = 0;
      for (const auto prompt : batch) {
        const auto length = lengths[static_cast<std::size_t>(prompt)];
        tokens += length;
        load.longest = std::max(load.longest, length);
        load.visits_of_length.resize(
            std::max(load.visits_of_length.size(), static_cast<std::size_t>(length) + 1));
        ++load.visits_of_length[static_cast<std::size_t>(length)];
      }
      load.visits += std::ssize(batch);
      load.batch_prompts = std::max(load.batch_prompts, static_cast<std::int64_t>(std::ssize(batch)));
      load.batch_tokens = std::max(load.batch_tokens, tokens);
    }
  }

  // Work: a prompt of P tokens with n responses of L tokens each. The last token of a response predicts
  // nothing, so the policy never reads it; a reward model does.

  Pass policy_pass(const PromptLoad& load, std::int64_t n) const {
    return pass(load, n, e_.sampling.max_new_tokens - 1, e_.sampling.max_new_tokens);
  }
  Pass scorer_pass(const PromptLoad& load, std::int64_t n) const {
    return pass(load, n, e_.sampling.max_new_tokens + closing_tokens_, 0);
  }
  static Pass pass(const PromptLoad& load, std::int64_t n, std::int64_t read, std::int64_t targets) {
    Pass sum;
    for (std::size_t length = 0; length < load.visits_of_length.size(); ++length) {
      const auto P = static_cast<double>(length), samples = static_cast<double>(n);
      Pass one = Pass::sequence(P);
      one += Pass::continuation(P, static_cast<double>(read)) * samples;
      one.targets = samples * static_cast<double>(targets);
      sum += one * static_cast<double>(load.visits_of_length[length]);
    }
    return sum;
  }

  /// A stage that draws n responses to each prompt.
  StageWork& add_work(const std::string& stage, const PromptLoad& load, std::int64_t n, std::int64_t runs,
                      std::int64_t steps) {
    auto& work = plan_.work.emplace_back();
    work.stage = stage;
    work.item = "prompts";
    work.runs = runs;
    work.steps = steps;
    work.items = load.visits / steps;
    work.samples = work.items * n;
    work.micro_batches = ceil_divide(work.items, e_.distributed.micro_batch_prompts);
    work.tokens =
        static_cast<double>(runs) * pass(load, n, e_.sampling.max_new_tokens, 0).tokens;  // of the policy
    return work;
  }

  // Memory.

  struct TrainedParameters {
    std::int64_t count = 0, prepared = 0;  // parameters; bytes of what is prepared of them
    bool adapter = false;
    std::vector<distributed::GradientPart> gradient_parts = {};  // on a GPU

    model::Trained kind() const { return adapter ? model::Trained::kAdapter : model::Trained::kAll; }
  };

  StageMemory& add_memory(const std::string& stage) {
    plan_.memory.push_back({stage, {}, {}});
    return plan_.memory.back();
  }
  bool on_gpu() const { return plan_.device == kernels::Device::kCuda; }
  /// In what activations and the cache are stored.
  kernels::Precision stored() const { return kernels::stored_on(plan_.device, precision(e_)); }
  /// What is in the CPU's memory wherever the rank computes.
  std::vector<Size>& on_cpu(StageMemory& memory) const { return on_gpu() ? memory.on_cpu : memory.parts; }
  /// Files are read into the CPU's memory first, a model at a time.
  void add_reading(StageMemory& memory, std::int64_t largest) const {
    if (on_gpu()) memory.on_cpu.push_back({"weights on their way to the GPU", largest});
  }

  /// What log-probabilities of n tokens take: rows, twice as many in training, and the kernel's room for
  /// logits, which it keeps until the program ends.
  void add_head(StageMemory& memory, std::int64_t n, bool training) {
    const auto once = model::TokenLogProbabilities::bytes(policy_, n, false);
    const auto twice = model::TokenLogProbabilities::bytes(policy_, n, true);
    memory.parts.push_back({"head scratch", training ? twice : once});
    kept_head_ = std::max(kept_head_, once - (twice - once));
  }
  /// For a stage that needs none itself. A GPU's pool takes it back.
  void add_kept_head(StageMemory& memory) const {
    if (kept_head_ > 0 && !on_gpu()) memory.parts.push_back({"head scratch kept from before", kept_head_});
  }

  /// Whether parameters are divided among ranks, those of adapters excepted.
  bool divides_parameters() const { return e_.distributed.sharding == 3 && plan_.ranks > 1; }
  std::int64_t share(std::int64_t count) const {
    if (!divides_parameters()) return count;
    const auto group = static_cast<int>(e_.distributed.shard_ranks);
    return distributed::group_shares(count, plan_.ranks, group).front().size();
  }

  void add_optimizer(StageMemory& memory, const TrainedParameters& trained) const {
    const auto count = trained.count;
    const auto mode =
        e_.distributed.reproducible ? distributed::SumMode::kReproducible : distributed::SumMode::kFast;
    auto sharding = static_cast<distributed::Sharding>(e_.distributed.sharding);
    if (sharding == distributed::Sharding::kParameters && trained.adapter)
      sharding = distributed::Sharding::kOptimizer;
    const auto bytes =
        distributed::ShardedOptimizer::bytes(count, plan_.ranks, mode, sharding, trained.gradient_parts);
    memory.parts.push_back({"gradients", bytes.gradient});
    memory.parts.push_back(
        {e_.distributed.reproducible ? "reproducible accumulators" : "accumulators", bytes.sums});
    memory.parts.push_back(
        {e_.distributed.sharding > 0 ? "optimizer moments of the shard" : "optimizer moments",
         bytes.moments});
    if (!trained.adapter && read_in() == kernels::Precision::kBfloat16)
      memory.parts.push_back({"float32 parameters of the shard", bytes.moments / 2});
    on_cpu(memory).push_back({"snapshot for checkpoints", 3 * ceil_divide(count, plan_.ranks) * kFloat});
    if (bytes.exchange > 0 && !on_gpu())
      memory.parts.push_back({"MPI's copies of what it sums", bytes.exchange});
  }

  /// Activations of a micro-batch that is trained on, with the gradient at their end.
  void add_training_activations(StageMemory& memory, const model::ModelConfig& config, std::int64_t tokens) {
    plan_.precision = precision(e_);
    plan_.micro_batch_tokens = std::max<std::int64_t>(1, tokens);
    memory.parts.push_back({"activations of a training micro-batch",
                            model::Activations::bytes(config, tokens, kept_for_gradient(e_), stored()) +
                                tokens * config.hidden_size * kFloat});
  }

  /// The models that are there from the start; returns the bytes of what is prepared of those that score.
  std::int64_t add_loaded(StageMemory& memory) const {
    const bool is_held_once = plan_.ranks > 1 && !divides_parameters() && !on_gpu();
    const std::string once = is_held_once ? ", once on each machine" : "";
    const std::int64_t reference = stored_bytes(policy_, stored_in(e_.memory.reference));
    memory.parts.push_back({"parameters: reference" + once, reference});
    std::int64_t prepared = 0, largest = reference;
    const auto add_scorers = [&](const std::string& what, const Scorers& scorers, const std::string& word) {
      std::int64_t bytes = 0;
      for (const auto& config : scorers) {
        bytes += stored_bytes(config, stored_in(word));
        largest = std::max(largest, stored_bytes(config, stored_in(word)));
        add_prepared(prepared, config, Use::kScoring, stored_in(word));
      }
      const auto number = scorers.size() > 1 ? std::to_string(scorers.size()) + " x " : "";
      if (bytes > 0) memory.parts.push_back({"parameters: " + number + what + once, bytes});
    };
    add_scorers("reward model", reward_, e_.memory.reward);
    add_scorers("judge", judge_, e_.memory.judge);
    add_scorers("reranker", reranker_, e_.memory.reranker);
    add_reading(memory, largest);
    return prepared;
  }

  void add_models(StageMemory& memory, bool with_policy,
                  std::initializer_list<kernels::Use> reference_uses) const {
    std::int64_t prepared = add_loaded(memory);
    const auto stored = stored_in(e_.memory.reference);
    if (has_adapters())  // which stand on the reference's weights
      add_prepared(prepared, policy_, Use::kTraining, stored);
    else
      for (const Use use : reference_uses) add_prepared(prepared, policy_, use, stored);
    if (with_policy) {
      const auto policy = largest_policy();
      memory.parts.push_back(
          {"parameters: policy", policy.adapter ? policy.count * kFloat : stored_bytes(policy_, read_in())});
      if (policy.adapter)
        prepared += policy.prepared;
      else
        add_prepared(prepared, policy_, Use::kTraining, read_in());
    }
    add_prepared_part(memory, prepared);
  }
  /// Takes account of a model whose products are prepared. Models that are gathered share the memory for it.
  void add_prepared(std::int64_t& bytes, const model::ModelConfig& config, kernels::Use use,
                    kernels::Precision stored = kernels::Precision::kFloat32) const {
    if (divides_parameters())
      bytes =
          std::max(bytes, model::GatheredParameters::bytes(config, use, precision(e_), stored, plan_.device));
    else
      bytes += prepared_bytes(config, use, stored);
  }
  void add_prepared_part(StageMemory& memory, std::int64_t bytes) const {
    memory.parts.push_back(
        {divides_parameters() ? "layers gathered and prepared" : "matrices prepared for products", bytes});
  }
  std::int64_t prepared_bytes(const model::ModelConfig& config, kernels::Use use,
                              kernels::Precision stored = kernels::Precision::kFloat32) const {
    return model::Weights::bytes(config, use, precision(e_), stored, plan_.device);
  }
  /// In what passes read a model that is trained whole.
  kernels::Precision read_in() const { return stored_in(e_.memory.policy); }
  std::int64_t stored_bytes(const model::ModelConfig& config, kernels::Precision stored) const {
    const model::ParameterLayout layout(config);
    if (stored == kernels::Precision::kFloat32) return share(layout.size()) * kFloat;
    const auto of_others =
        (layout.size() - share(layout.size())) * static_cast<std::int64_t>(sizeof(kernels::Bfloat16));
    return model::NarrowParameters::bytes(layout) - of_others;
  }

  void add_sampling(StageMemory& memory, const PromptLoad& load, std::int64_t n, bool judges) const {
    const auto rows = load.batch_prompts * n;
    const auto decoder = model::Decoder::bytes(policy_, load.batch_prompts, load.batch_tokens, load.longest,
                                               rows, e_.sampling.max_new_tokens, stored());
    memory.parts.push_back({"key/value cache", decoder.cache});
    memory.parts.push_back({"activations of sampling",
                            decoder.prefill + decoder.rows + model::Generator::logits_bytes(policy_, rows)});
    const auto read =
        load.longest + n * (e_.sampling.max_new_tokens + closing_tokens_);  // one prompt at a time
    std::int64_t scoring = 0;
    for (const auto& scorers : {reward_, reranker_, judges ? judge_ : Scorers()})
      for (const auto& config : scorers)
        scoring += model::Activations::bytes(config, read, Keep::kNothing, stored());
    memory.parts.push_back({"activations of scoring", scoring});
  }

  /// Of all models that read the responses. What a program takes is not known.
  double scoring_operations(const Pass& pass, bool judges) const {
    double operations = 0;
    for (const auto& scorers : {reward_, reranker_, judges ? judge_ : Scorers()})
      for (const auto& config : scorers) operations += model::forward_operations(config, pass);
    return operations;
  }

  /// Tokens of the largest micro-batch as the policy's log-probabilities need them.
  std::int64_t packed_tokens(const PromptLoad& load, std::int64_t n) const {
    return load.batch_tokens + load.batch_prompts * n * (e_.sampling.max_new_tokens - 1);
  }
  std::int64_t targets(const PromptLoad& load, std::int64_t n) const {
    return load.batch_prompts * n * e_.sampling.max_new_tokens;
  }

  std::int64_t calibration_table() const {
    return std::ssize(train_) * e_.calibration.rollouts_per_prompt * kFloat;
  }

  // Disk.

  void disk(const std::string& what, std::int64_t bytes) { plan_.disk.push_back({what, bytes}); }
  void checkpoints_on_disk(const std::string& of, std::int64_t count, std::int64_t runs) {
    disk("checkpoints of " + of + ": " + (runs > 1 ? std::to_string(runs) + " variants x " : "") +
             std::to_string(e_.checkpoint.keep) + " kept",
         3 * count * kFloat * e_.checkpoint.keep * runs);
  }

  std::int64_t variants() const { return std::ssize(e_.alignment.variants); }

  void policies_on_disk() {
    std::int64_t count = 0;
    for (const auto& variant : e_.alignment.variants) {
      const bool as_adapter = variant.lora.enabled() && e_.exported.lora == "adapter";
      count += as_adapter ? trained_of("alignment.lora", policy_, variant.lora).count : parameters(policy_);
    }
    disk("policies, as float32", count * kFloat);
  }

  void export_policies() {
    policies_on_disk();
    auto& memory = add_memory("export");
    const auto prepared = add_loaded(memory);
    // A policy is read and written a tensor at a time; an adapter is read whole, and may be merged.
    std::int64_t count = 0;
    const model::ParameterLayout layout(policy_);
    for (const auto& view : layout.views()) count = std::max(count, view.size);
    for (const auto& variant : e_.alignment.variants)
      if (const auto trained = trained_of("alignment.lora", policy_, variant.lora); trained.adapter)
        count = std::max(count, trained.count + (e_.exported.lora == "merged" ? parameters(policy_) : 0));
    memory.parts.push_back({"parameters: policy", count * kFloat});
    add_prepared_part(memory, prepared);
    add_kept_head(memory);
  }

  // What is trained: all parameters, or an adapter.

  TrainedParameters trained_of(const std::string& path, const model::ModelConfig& config,
                               const experiment::Lora& lora) const {
    if (const auto adapter = make_adapter(path, config, lora))
      return {adapter->size(), adapter->prepared_bytes(plan_.device), true};
    TrainedParameters all{parameters(config), prepared_bytes(config, Use::kTraining, read_in())};
    if (on_gpu()) all.gradient_parts = gradient_parts(model::ParameterLayout(config));
    return all;
  }

  /// Of a stage that trains one model: parameters, optimizer, prepared matrices.
  void add_trained(StageMemory& memory, const std::string& what, const model::ModelConfig& config,
                   const TrainedParameters& trained) const {
    const auto stored = trained.adapter ? kernels::Precision::kFloat32 : read_in();
    memory.parts.push_back({"parameters: " + what, stored_bytes(config, stored)});
    add_reading(memory, share(parameters(config)) * kFloat);
    if (trained.adapter) memory.parts.push_back({"parameters: adapter", trained.count * kFloat});
    add_optimizer(memory, trained);
    std::int64_t prepared = trained.adapter ? trained.prepared : 0;
    add_prepared(prepared, config, Use::kTraining, stored);
    add_prepared_part(memory, prepared);
  }

  /// Of the variants the one that takes most.
  TrainedParameters largest_policy() const {
    TrainedParameters largest;
    for (const auto& variant : e_.alignment.variants)
      if (const auto trained = trained_of("alignment.lora", policy_, variant.lora);
          trained.count > largest.count)
        largest = trained;
    return largest;
  }
  bool has_adapters() const {
    return std::ranges::any_of(e_.alignment.variants, [](const auto& v) { return v.lora.enabled(); });
  }

  // The stages.

  void finetune() {
    const auto& settings = *e_.finetune;
    const auto length = settings.sequence_length;
    const auto per_batch = std::min(e_.distributed.micro_batch_prompts, settings.sequences_per_step);
    const auto sequences = static_cast<double>(settings.steps * settings.sequences_per_step);
    auto pass = Pass::sequence(static_cast<double>(length));
    pass.targets = static_cast<double>(length - 1);
    StageWork work;
    work.stage = "finetune";
    work.item = "sequences";
    work.steps = settings.steps;
    work.items = settings.sequences_per_step;
    work.micro_batches = ceil_divide(settings.sequences_per_step, per_batch);
    work.tokens = sequences * pass.tokens;
    const auto trained = trained_of("finetune.lora", policy_, settings.lora);
    work.operations =
        model::training_operations(policy_, pass * sequences, trained.kind(), kept_for_gradient(e_));
    plan_.work.push_back(work);

    auto& memory = add_memory("finetune");
    add_trained(memory, "policy", policy_, trained);
    add_training_activations(memory, policy_, per_batch * length);
    add_head(memory, per_batch * (length - 1), true);
    // The documents while they are read, later their ids in their place.
    on_cpu(memory).push_back({"text", 2 * text_size(settings.text)});
    checkpoints_on_disk("finetune", trained.count, 1);
    disk("models/finetuned", parameters(policy_) * kFloat);
  }

  static std::int64_t text_size(const std::filesystem::path& file) {
    if (file.extension() != ".gz") return static_cast<std::int64_t>(std::filesystem::file_size(file));
    std::int64_t bytes = 0;
    text::for_each_line(file, [&](std::string_view line, std::int64_t) { bytes += std::ssize(line) + 1; });
    return bytes;
  }

  void reward(const std::string& name, const experiment::Reward& settings) {
    const auto folder = described_by(e_.backbone(settings));
    const auto described = description_folder(folder);
    const auto config = as_reward_model(read_model_config(folder, settings.layers));
    const auto tokenizer = text::Tokenizer::load(described);
    const auto data = read_preference_pairs(
        settings, tokenizer, closing_token(described, tokenizer, settings.read_at), config.max_positions,
        [&] { return text::ChatTemplate::load(described, e_.model.chat_template); });
    if (!data.too_long().empty()) plan_.notes.push_back(name + ": " + data.too_long());
    const auto per_batch = pairs_per_micro_batch(settings, e_.distributed);
    const auto count = std::ssize(data.train);
    const auto pass_of = [&](std::int64_t pair) {
      const auto& ids = data.pairs[static_cast<std::size_t>(pair)];
      const auto prompt = static_cast<double>(ids.prompt.size());
      auto pass = Pass::sequence(prompt);
      pass += Pass::continuation(prompt, static_cast<double>(ids.chosen.size()));
      pass += Pass::continuation(prompt, static_cast<double>(ids.rejected.size()));
      return pass;
    };
    StageWork work;
    work.stage = name;
    work.item = "pairs";
    work.steps = reward_steps(settings, count);
    work.items = settings.pairs_per_step;
    work.micro_batches = ceil_divide(settings.pairs_per_step, per_batch);
    std::int64_t largest = 0;
    const auto batches = [&](const std::vector<std::int64_t>& which, const auto& visit) {
      for (const auto& batch : micro_batches(which, per_batch)) {
        Pass pass;
        for (const auto pair : batch) pass += pass_of(pair);
        largest = std::max(largest, static_cast<std::int64_t>(pass.tokens));
        visit(pass);
      }
    };
    const auto trained = trained_of(name + ".lora", config, settings.lora);
    ShuffledBatches order(e_.seed + settings.seed_offset, count);
    for (std::int64_t step = 0; step < work.steps; ++step) {
      auto which = order.batch(settings.pairs_per_step, step);
      for (auto& i : which) i = data.train[static_cast<std::size_t>(i)];
      batches(which, [&](const Pass& pass) {
        work.tokens += pass.tokens;
        work.operations += model::training_operations(config, pass, trained.kind(), kept_for_gradient(e_));
      });
    }
    auto& memory = add_memory(name);
    add_trained(memory, name + " model", config, trained);
    add_kept_head(memory);
    add_training_activations(memory, config, largest);
    batches(data.heldout, [&](const Pass& pass) {
      work.tokens += pass.tokens;
      work.operations += model::forward_operations(config, pass);
    });
    plan_.work.push_back(work);
    checkpoints_on_disk(name, trained.count, 1);
    disk("models/" + name, parameters(config) * kFloat);
  }

  void calibrate() {
    const auto table = calibration_table();
    const auto counts =
        static_cast<std::int64_t>(alignment::RewardSketch().counts().size() * sizeof(std::uint64_t));
    disk("calibration.h5", table + counts + prompt_text_bytes_ +
                               static_cast<std::int64_t>(train_.size() * sizeof(std::uint64_t)));
    if (!e_.calibration.reuse.empty()) return;
    const auto K = e_.calibration.rollouts_per_prompt;
    PromptLoad load;
    add_to(load, train_, first_items(std::ssize(train_)));
    auto& work = add_work("calibrate", load, K, 1, 1);
    work.operations = model::forward_operations(policy_, policy_pass(load, K)) +
                      scoring_operations(scorer_pass(load, K), false);
    auto& memory = add_memory("calibrate");
    add_models(memory, false, {Use::kSampling});
    add_sampling(memory, load, K, false);
    add_kept_head(memory);
    on_cpu(memory).push_back({"calibration table", table + counts});
  }

  void align() {
    const auto& settings = e_.alignment;
    const auto n = settings.samples_per_prompt;
    PromptLoad load;
    ShuffledBatches order(e_.seed, std::ssize(train_));
    for (std::int64_t step = 0; step < settings.steps; ++step)
      add_to(load, train_, order.batch(settings.prompts_per_step, step));
    auto& work = add_work("align", load, n, variants(), settings.steps);
    const auto pass = policy_pass(load, n);
    // Sampled by the policy, read by the reward model and the reference, trained on.
    for (const auto& variant : e_.alignment.variants) {
      const auto kind = variant.lora.enabled() ? model::Trained::kAdapter : model::Trained::kAll;
      work.operations += 2 * model::forward_operations(policy_, pass) +
                         scoring_operations(scorer_pass(load, n), false) +
                         model::training_operations(policy_, pass, kind, kept_for_gradient(e_));
    }
    auto& memory = add_memory("align");
    if (e_.calibration.fresh)
      add_models(memory, true, {Use::kScoring, Use::kSampling});
    else
      add_models(memory, true, {Use::kScoring});
    add_optimizer(memory, largest_policy());
    add_training_activations(memory, policy_, packed_tokens(load, n));
    add_sampling(memory, load, n, false);
    add_head(memory, targets(load, n), true);
    on_cpu(memory).push_back({"calibration table", calibration_table()});
    checkpoints_on_disk("align", largest_policy().count, variants());
  }

  void evaluate() {
    const auto M = e_.evaluation.samples_per_prompt;
    PromptLoad load, check;
    add_to(load, heldout_, first_items(std::ssize(heldout_)));
    auto& work = add_work("evaluate", load, M, variants() + 1, 1);
    const auto pass = policy_pass(load, M), scored = scorer_pass(load, M);
    // Sampled by each policy, read by the reward model, the judge and the reference.
    work.operations = static_cast<double>(variants() + 1) *
                      (2 * model::forward_operations(policy_, pass) + scoring_operations(scored, true));
    add_to(check, train_, first_items(std::min<std::int64_t>(kCalibrationCheckPrompts, std::ssize(train_))));
    auto& checking = add_work("evaluate: calibration check", check, M, 1, 1);
    checking.operations = model::forward_operations(policy_, policy_pass(check, M)) +
                          scoring_operations(scorer_pass(check, M), false);

    auto& memory = add_memory("evaluate");
    add_models(memory, true, {Use::kScoring, Use::kSampling});
    add_sampling(memory, load, M, true);
    memory.parts.push_back(
        {"activations of the reference",
         model::Activations::bytes(policy_, packed_tokens(load, M), Keep::kNothing, stored())});
    add_head(memory, targets(load, M), false);
    on_cpu(memory).push_back({"calibration table", calibration_table()});
    const std::int64_t kept = 2 * kFloat + 2 * static_cast<std::int64_t>(sizeof(double));  // PolicySamples
    on_cpu(memory).push_back({"samples of all policies", (variants() + 1) * std::ssize(heldout_) * M * kept});
  }

  const experiment::Experiment& e_;
  Plan plan_;
  model::ModelConfig policy_;
  Scorers reward_, judge_, reranker_;
  std::int64_t closing_tokens_ = 0;            // that a reward model reads behind a response
  std::vector<std::int64_t> train_, heldout_;  // tokens of each prompt
  std::int64_t prompt_text_bytes_ = 0;         // of the training prompts
  std::int64_t kept_head_ = 0;                 // bytes
};

/// The most memory that this process has had in use; 0 where the system does not tell.
std::int64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::int64_t kibibytes = 0;
    if (word == "VmHWM:" && status >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

}  // namespace

double StageWork::share(int ranks) const {
  return micro_batches == 0
             ? 0
             : static_cast<double>(ceil_divide(micro_batches, ranks)) / static_cast<double>(micro_batches);
}

std::vector<std::int64_t> even_shares(std::int64_t micro_batches) {
  std::vector<std::int64_t> even;
  for (std::int64_t ranks = 1; ranks <= micro_batches; ++ranks)
    if (micro_batches % ranks == 0) even.push_back(ranks);
  return even;
}

std::int64_t sum(const std::vector<Size>& sizes) {
  std::int64_t bytes = 0;
  for (const auto& size : sizes) bytes += size.bytes;
  return bytes;
}

const StageMemory* Plan::largest() const {
  const auto most = std::max_element(
      memory.begin(), memory.end(), [](const auto& a, const auto& b) { return sum(a.parts) < sum(b.parts); });
  return most == memory.end() ? nullptr : &*most;
}

Plan make_plan(const experiment::Experiment& experiment, int ranks) {
  return Planner(experiment, ranks).plan();
}

std::int64_t Host::peak(const Plan& plan) const {
  std::int64_t most = 0;
  for (const auto& stage : plan.memory)
    most = std::max(most, sum(plan.device == kernels::Device::kCuda ? stage.on_cpu : stage.parts));
  return program_bytes + (plan.ranks > 1 ? mpi_bytes : 0) + most;
}

Host measure_host(const Plan& plan, std::optional<double> gflops) {
  Host host;
  host.mpi_bytes = kMpiBytes;
  host.program_bytes = peak_resident_bytes();
  if (plan.device == kernels::Device::kCuda && !gflops) return host;
  host.measured = !gflops.has_value();
  const auto& policy = plan.models.front().config;
  host.operations_per_second =
      gflops ? *gflops * 1e9 : model::measure_speed(policy, plan.micro_batch_tokens, plan.precision);
  host.program_bytes = peak_resident_bytes();
  return host;
}

}  // namespace infalign::stages
