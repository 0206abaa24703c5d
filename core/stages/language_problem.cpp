#include "core/stages/language_problem.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "core/stages/adapter_folder.h"
#include "core/stages/precision.h"
#include "core/stages/trainee.h"
#include "core/storage/durable.h"
#include "core/text/chat_template.h"
#include "kernels/trace.h"

namespace infalign::stages {
namespace {

/// All tokens of a response as targets behind its prompt. Its last token predicts nothing, so it needs no
/// row.
void add_response(model::PackedBatch& batch, model::Targets& targets, std::int32_t prompt,
                  std::span<const std::int32_t> tokens) {
  const auto& placed = batch.segments[static_cast<std::size_t>(prompt)];
  targets.rows.push_back(placed.begin + placed.length - 1);
  targets.tokens.push_back(tokens.front());
  if (tokens.size() == 1) return;
  const auto segment = batch.add(tokens.first(tokens.size() - 1), prompt);
  const auto begin = batch.segments[static_cast<std::size_t>(segment)].begin;
  for (std::size_t t = 1; t < tokens.size(); ++t) {
    targets.rows.push_back(begin + static_cast<std::int32_t>(t) - 1);
    targets.tokens.push_back(tokens[t]);
  }
}

}  // namespace

std::vector<std::int32_t> without_stop(const model::Response& response) {
  auto tokens = response.tokens;
  if (response.stopped) tokens.pop_back();
  return tokens;
}

LanguageProblem::LanguageProblem(const experiment::Experiment& experiment, const kernels::Stream& on,
                                 std::shared_ptr<ParameterShards> shards, distributed::MachineMemory* machine)
    : shards_(std::move(shards)),
      on_(on),
      sampling_(experiment.sampling),
      precision_(precision(experiment)),
      keep_(kept_for_gradient(experiment)),
      reference_(ModelFolder::load_frozen(experiment.policy_start(), stored_in(experiment.memory.reference),
                                          {}, {shards_.get(), machine}, on)),
      has_adapters_(std::ranges::any_of(experiment.alignment.variants,
                                        [](const auto& variant) { return variant.lora.enabled(); })),
      seed_(experiment.seed),
      rounding_seed_(rounding_seed(experiment)),
      in_bfloat16_(stored_in(experiment.memory.policy) == kernels::Precision::kBfloat16),
      tensors_(tensor_places(reference_.transformer.layout().views())),
      generator_(reference_.transformer) {
  const auto source = [&](const std::string& name, const experiment::RewardChoice& choice,
                          const std::string& stored) {
    return make_reward_source(name, choice, experiment.policy_start(), on_, precision_, stored_in(stored),
                              {shards_.get(), machine});
  };
  reward_ = source("model.reward", experiment.reward_source(), experiment.memory.reward);
  judge_ = source("model.judge", experiment.judge_source(), experiment.memory.judge);
  reranker_ = source("model.reranker", experiment.model.reranker, experiment.memory.reranker);
  if (!experiment.inference.answer.empty()) answers_.emplace("inference.answer", experiment.inference.answer);
  const auto chat = [&] {
    return text::ChatTemplate::load(description_folder(experiment.policy_start()),
                                    experiment.model.chat_template);
  };
  prompts_ = read_prompt_sets(experiment.prompts, reference_.tokenizer, chat,
                              reference_.transformer.config().max_positions, sampling_.max_new_tokens);
  reference_fingerprint_ =
      with_dtype(with_storage(fingerprint_folder(reference_.path), experiment.memory.reference), experiment);
  storage::Fingerprint rewards;
  for (const auto& [of, stored] :
       {std::pair(&reward_, &experiment.memory.reward), std::pair(&judge_, &experiment.memory.judge),
        std::pair(&reranker_, &experiment.memory.reranker)})
    if (*of) rewards.add(with_storage((*of)->fingerprint(), *stored));
  reward_fingerprint_ = with_dtype(rewards.hex(), experiment);
}

std::int64_t LanguageProblem::prompt_count(Split split) const {
  return static_cast<std::int64_t>(prompts(split).text.size());
}

std::string LanguageProblem::prompt_text(Split split, std::int64_t prompt) const {
  return prompts(split).text[static_cast<std::size_t>(prompt)];
}

std::uint64_t LanguageProblem::prompt_id(Split split, std::int64_t prompt) const {
  return prompts(split).id[static_cast<std::size_t>(prompt)];
}

std::string LanguageProblem::response_text(const model::Response& response) const {
  return reference_.tokenizer.decode_continuation(without_stop(response));
}

const model::Weights& LanguageProblem::reference_weights(kernels::Use use) {
  const auto [entry, is_new] = reference_weights_.try_emplace(has_adapters_ ? kernels::Use::kTraining : use);
  if (is_new) entry->second = reference_.prepare(on_, entry->first, precision_);
  return entry->second;
}

void LanguageProblem::choose_policies(const experiment::Variant& variant) {
  give_back_policy();
  adapter_ = make_adapter("alignment.lora", reference_.transformer.config(), variant.lora);
  tensors_ = tensor_places(adapter_ ? adapter_->views() : reference_.transformer.layout().views());
}

void LanguageProblem::give_back_policy() {
  policy_weights_ = {};
  narrow_policy_.reset();
  policy_ = {};
  sharded_policy_ = {};
  may_be_gathered_ = false;
}

std::span<float> LanguageProblem::make_room() {
  give_back_policy();
  if (in_bfloat16_ && !adapter_) {
    narrow_policy_.emplace(on_, reference_.transformer, shards_.get());
    return {};
  }
  if (shards_policies()) {
    sharded_policy_ = shards_->hold<float>(parameter_count());
    return sharded_policy_.own<float>();
  }
  policy_ = kernels::Buffer<float>(on_, static_cast<std::size_t>(parameter_count()));
  return policy_.span();
}

Trainable LanguageProblem::trainable() {
  const std::span<float> parameters = make_room();
  if (narrow_policy_)
    return {{},
            narrow_policy_->copy(rounding_seed_),
            [this](distributed::Interval interval, std::span<float> to) {
              reference_.copy_to(on_, interval, to);
            }};
  if (adapter_)
    kernels::fill_by_cpu(on_, parameters, [this](std::span<float> values) {
      model::initialise(*adapter_, seed_, {}, values);
    });
  else
    reference_.copy_to(on_, parameters);
  return {parameters};
}

void LanguageProblem::load_policy(const ReadParameters& read) {
  const std::span<float> parameters = make_room();
  if (narrow_policy_) {
    narrow_policy_->read(read);
  } else {
    const auto held =
        shards_policies() ? shards_->held(parameter_count()) : distributed::Interval{0, parameter_count()};
    kernels::fill_by_cpu(on_, parameters, [&](std::span<float> values) { read(held, values); });
  }
  set_policy();
}

void LanguageProblem::set_policy() {
  const kernels::Span span("prepare weights");
  if (adapter_)
    policy_weights_.adapt(on_, reference_weights(kernels::Use::kTraining), *adapter_, policy_.span());
  else if (narrow_policy_)
    narrow_policy_->prepare(precision_, policy_weights_);
  else if (!shards_)
    reference_.transformer.prepare(on_, policy_.span(), kernels::Use::kTraining, precision_, policy_weights_);
  else {
    if (!std::exchange(may_be_gathered_, true)) shards_->meet();
    policy_weights_ =
        reference_.transformer.prepare(on_, sharded_policy_, kernels::Use::kTraining, precision_);
  }
}

Rollouts LanguageProblem::sample(Answerer answerer, Split split, std::span<const std::int64_t> which,
                                 std::int64_t n, kernels::RandomKey key, std::uint32_t first_sample) {
  std::vector<model::Prompt> batch;
  for (const auto prompt : which)
    batch.push_back({prompts(split).tokens[static_cast<std::size_t>(prompt)], prompt_id(split, prompt)});
  model::SamplingSettings settings;
  settings.temperature = static_cast<float>(sampling_.temperature);
  settings.top_p = static_cast<float>(sampling_.top_p);
  settings.max_new_tokens = sampling_.max_new_tokens;
  settings.stop_tokens = reference_.tokenizer.special().stop;
  const kernels::Span span("sample");
  const auto& weights =
      answerer == Answerer::kPolicy ? policy_weights_ : reference_weights(kernels::Use::kSampling);
  Rollouts rollouts;
  rollouts.split = split;
  rollouts.prompts.assign(which.begin(), which.end());
  rollouts.samples = n;
  rollouts.responses = generator_.generate(on_, weights, batch, n, settings, key, first_sample);
  return rollouts;
}

std::vector<float> LanguageProblem::rewards(RewardSource& source, const Rollouts& rollouts) const {
  std::vector<float> all;
  for (std::size_t b = 0; b < rollouts.prompts.size(); ++b) {
    std::vector<std::vector<std::int32_t>> ids;
    std::vector<std::string> texts;
    for (const auto& response : rollouts.responses[b]) {
      ids.push_back(without_stop(response));
      if (source.reads_text()) texts.push_back(response_text(response));
    }
    const auto& set = prompts(rollouts.split);
    const auto prompt = static_cast<std::size_t>(rollouts.prompts[b]);
    const auto scored = source.score(on_, set.tokens[prompt], set.text[prompt], ids, texts);
    all.insert(all.end(), scored.begin(), scored.end());
  }
  return all;
}

void LanguageProblem::score(Rollouts& rollouts, bool judge) {
  const kernels::Span span("rewards");
  rollouts.reward = rewards(*reward_, rollouts);
  if (judge && judge_) rollouts.judge_reward = rewards(*judge_, rollouts);
  if (reranker_) rollouts.reranker_reward = rewards(*reranker_, rollouts);
  if (!answers_) return;
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < rollouts.size(); ++i) texts.push_back(response_text(rollouts.response(i)));
  rollouts.answer = answers_->numbers(texts);
}

LanguageProblem::Packed LanguageProblem::pack(const Rollouts& rollouts) const {
  Packed packed;
  for (std::size_t b = 0; b < rollouts.prompts.size(); ++b) {
    const auto prompt =
        packed.batch.add(prompts(rollouts.split).tokens[static_cast<std::size_t>(rollouts.prompts[b])]);
    for (const auto& response : rollouts.responses[b])
      add_response(packed.batch, packed.targets, prompt, response.tokens);
  }
  return packed;
}

void LanguageProblem::score_reference(Rollouts& rollouts) {
  const kernels::Span span("reference");
  const auto packed = pack(rollouts);
  const auto& weights = reference_weights(kernels::Use::kScoring);
  reference_.transformer.forward(on_, weights, packed.batch, model::Keep::kNothing, activations_);
  log_probabilities_.forward(on_, reference_.transformer, weights, activations_, packed.targets,
                             static_cast<float>(sampling_.temperature));
  auto at = log_probabilities_.values().begin();
  rollouts.reference_log_probability.clear();
  for (std::size_t i = 0; i < rollouts.size(); ++i) {
    const auto length = static_cast<std::ptrdiff_t>(rollouts.response(i).tokens.size());
    rollouts.reference_log_probability.emplace_back(at, at + length);
    at += length;
  }
}

double LanguageProblem::accumulate_gradient(const Rollouts& rollouts, std::span<const double> coefficient,
                                            const model::GradientPlace& gradient,
                                            const model::CompleteFrom& complete_from) {
  const kernels::Span span("gradient");
  const auto packed = pack(rollouts);
  const auto& transformer = reference_.transformer;
  std::vector<float> d_values;
  for (std::size_t i = 0; i < rollouts.size(); ++i)
    d_values.insert(d_values.end(), rollouts.response(i).tokens.size(), static_cast<float>(coefficient[i]));
  const auto values = static_cast<std::size_t>(packed.batch.size() * transformer.config().hidden_size);
  d_hidden_.reserve(on_, values);
  const auto d_hidden = d_hidden_.span().first(values);

  transformer.forward(on_, policy_weights_, packed.batch, keep_, activations_);
  log_probabilities_.forward_backward(on_, transformer, policy_weights_, activations_, packed.targets,
                                      static_cast<float>(sampling_.temperature), d_values, d_hidden,
                                      gradient);
  transformer.backward(on_, policy_weights_, packed.batch, activations_, d_hidden, gradient, complete_from);

  double gap = 0;
  auto value = log_probabilities_.values().begin();
  for (std::size_t i = 0; i < rollouts.size(); ++i)
    for (const float sampled : rollouts.response(i).log_probabilities)
      gap = std::max(gap, std::abs(static_cast<double>(*value++) - static_cast<double>(sampled)));
  return gap;
}

}  // namespace infalign::stages
