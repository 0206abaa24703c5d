// Stage `finetune`: next-token training on documents. Sequences are packed side by side without padding and
// never attend to each other. Leaves the model folder `output/models/finetuned`.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "core/error.h"
#include "core/json/json.h"
#include "core/stages/model_folder.h"
#include "core/stages/precision.h"
#include "core/stages/run.h"
#include "core/stages/shuffle.h"
#include "core/stages/trainee.h"
#include "core/stages/training.h"
#include "core/storage/durable.h"
#include "core/text/records.h"

namespace infalign::stages {
namespace {

using Sequence = std::vector<std::int32_t>;

/// Documents of a JSON-lines file of {"text"}, or of plain text separated by blank lines or <|endoftext|>.
std::vector<std::string> read_documents(const std::filesystem::path& path) {
  std::vector<std::string> documents;
  const auto name = path.filename().string();
  if (name.ends_with(".jsonl") || name.ends_with(".jsonl.gz")) {
    text::for_each_line(path, [&](std::string_view line, std::int64_t number) {
      const auto json = parse_json(line);
      if (!json.is_object() || !json.contains("text") || !json["text"].is_string())
        throw InputError(path.string() + ":" + std::to_string(number) + ": expected {\"text\": \"...\"}");
      documents.push_back(json["text"]);
    });
  } else {
    const auto whole = text::read_text(path);
    const std::string mark = whole.find("<|endoftext|>") != std::string::npos ? "<|endoftext|>" : "\n\n";
    for (std::size_t begin = 0; begin <= whole.size();) {
      const auto end = std::min(whole.find(mark, begin), whole.size());
      auto document = whole.substr(begin, end - begin);
      document.erase(0, document.find_first_not_of(" \n\r\t"));
      document.erase(document.find_last_not_of(" \n\r\t") + 1);
      if (!document.empty()) documents.push_back(std::move(document));
      begin = end + mark.size();
    }
  }
  if (documents.empty()) throw InputError(path.string() + ": no documents");
  return documents;
}

/// Token sequences of at most `length`, each document ended by the tokenizer's end token; the pieces of a
/// long document overlap by one token, so that every token but a document's first is predicted once.
std::vector<Sequence> tokenize(const text::Tokenizer& tokenizer, const std::vector<std::string>& documents,
                               std::int64_t length) {
  std::vector<Sequence> sequences;
  for (const auto& document : documents) {
    auto ids = tokenizer.encode(document);
    if (!tokenizer.special().stop.empty()) ids.push_back(tokenizer.special().stop.front());
    const auto step = static_cast<std::size_t>(length - 1);
    for (std::size_t begin = 0; begin + 1 < ids.size(); begin += step) {
      const auto end = std::min(ids.size(), begin + step + 1);
      sequences.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                             ids.begin() + static_cast<std::ptrdiff_t>(end));
    }
  }
  return sequences;
}

/// Packs sequences `which`, all their tokens targets.
std::pair<model::PackedBatch, model::Targets> pack_sequences(const std::vector<Sequence>& sequences,
                                                             std::span<const std::int64_t> which) {
  std::pair<model::PackedBatch, model::Targets> packed;
  for (const auto i : which)
    packed.second.add_sequence(packed.first, packed.first.add(sequences[static_cast<std::size_t>(i)]));
  return packed;
}

/// Mean negative log-likelihood of a token, nats; summed in micro-batch order.
double mean_nll(Run& run, const model::Transformer& transformer, const model::Weights& weights,
                const std::vector<Sequence>& sequences) {
  std::vector<std::int64_t> all(sequences.size());
  std::iota(all.begin(), all.end(), 0);
  model::Activations activations;
  model::TokenLogProbabilities log_probabilities;
  std::vector<double> sums;
  const auto per_batch = run.experiment.distributed.micro_batch_prompts;
  for_own_micro_batches(run, all, per_batch, [&](std::span<const std::int64_t> which, std::int64_t) {
    const auto [batch, targets] = pack_sequences(sequences, which);
    transformer.forward(run.on, weights, batch, model::Keep::kNothing, activations);
    log_probabilities.forward(run.on, transformer, weights, activations, targets, 1);
    double sum = 0;
    for (const float value : log_probabilities.values()) sum -= static_cast<double>(value);
    sums.push_back(sum);
    sums.push_back(static_cast<double>(targets.size()));
  });
  const auto gathered = gather(run, sums);
  double nll = 0, tokens = 0;
  for (std::size_t i = 0; i < gathered.size(); i += 2) nll += gathered[i], tokens += gathered[i + 1];
  return nll / std::max(1.0, tokens);
}

}  // namespace

void finetune(Run& run) {
  const auto& settings = *run.experiment.finetune;
  const auto shards = make_shards(run);
  auto folder = settings.from_scratch
                    ? ModelFolder::fresh(settings.initial, run.experiment.seed, shards.get())
                    : ModelFolder::load(settings.initial, {}, shards.get());
  const auto& transformer = folder.transformer;
  Trainee trainee(run, "finetune.lora", folder, settings.lora, run.experiment.seed, shards.get());
  if (settings.sequence_length > transformer.config().max_positions)
    throw ConfigurationError("finetune.sequence_length: " + std::to_string(settings.sequence_length) +
                             " exceeds the model's context of " +
                             std::to_string(transformer.config().max_positions));

  storage::Fingerprint inputs;
  inputs.add(with_dtype(fingerprint_folder(settings.initial), run.experiment))
      .add_file(settings.text)
      .add(to_text(settings.optimizer))
      .add(to_text(settings.lora));
  const std::vector<double> numbers = {static_cast<double>(run.experiment.seed),
                                       settings.from_scratch ? 1.0 : 0.0,
                                       static_cast<double>(settings.steps),
                                       static_cast<double>(settings.sequences_per_step),
                                       static_cast<double>(settings.sequence_length),
                                       settings.heldout_fraction,
                                       static_cast<double>(run.experiment.distributed.micro_batch_prompts)};
  inputs.add(to_text(numbers));
  const auto fingerprint = with_policy_storage(inputs.hex(), run.experiment, settings.lora);
  const auto checkpoints = run.experiment.output / "checkpoints" / ".finetune";
  const auto target = run.experiment.finetuned_folder();
  if (run.is_done("finetune", fingerprint, target)) {
    log_line(run, "finetune: done before, kept");
    return;
  }

  auto documents = read_documents(settings.text);
  const auto heldout_count = std::max<std::size_t>(
      1, static_cast<std::size_t>(static_cast<double>(documents.size()) * settings.heldout_fraction));
  std::vector<std::string> heldout, train;
  const auto order = permutation(run.experiment.seed, static_cast<std::int64_t>(documents.size()), -1);
  for (std::size_t i = 0; i < order.size(); ++i)
    (i < heldout_count ? heldout : train).push_back(std::move(documents[static_cast<std::size_t>(order[i])]));
  if (train.empty())
    throw InputError(settings.text.string() + ": one document is too few; at least two are needed");
  const auto train_sequences = tokenize(folder.tokenizer, train, settings.sequence_length);
  const auto heldout_sequences = tokenize(folder.tokenizer, heldout, settings.sequence_length);

  Training training(
      run,
      {"finetune", "", settings.steps, settings.optimizer, checkpoints, fingerprint,
       TrainingPlan().max_skipped_steps,
       micro_batch_count(settings.sequences_per_step, run.experiment.distributed.micro_batch_prompts),
       trainee.is_sharded(), trainee.gradient_parts()},
      trainee.tensors(), trainee.trainable());
  model::Activations activations;
  model::TokenLogProbabilities log_probabilities;
  kernels::Buffer<float> d_hidden;
  training.run([&](std::int64_t step) {
    const auto& weights = trainee.prepare();
    const auto which = shuffled_batch(run.experiment.seed, static_cast<std::int64_t>(train_sequences.size()),
                                      settings.sequences_per_step, step - 1);
    double tokens = 0;
    for (const auto i : which)
      tokens += static_cast<double>(train_sequences[static_cast<std::size_t>(i)].size() - 1);
    std::vector<double> sums;
    const auto per_batch = run.experiment.distributed.micro_batch_prompts;
    for_own_micro_batches(
        run, which, per_batch, [&](std::span<const std::int64_t> own, std::int64_t batches) {
          const auto [batch, targets] = pack_sequences(train_sequences, own);
          transformer.forward(run.on, weights, batch, kept_for_gradient(run.experiment), activations);
          const std::vector<float> d_values(static_cast<std::size_t>(targets.size()),
                                            static_cast<float>(-1 / tokens));
          const auto values = static_cast<std::size_t>(batch.size() * transformer.config().hidden_size);
          d_hidden.reserve(run.on, values);
          const auto d = d_hidden.span().first(values);
          log_probabilities.forward_backward(run.on, transformer, weights, activations, targets, 1, d_values,
                                             d, training.gradient());
          sums.push_back(
              -std::accumulate(log_probabilities.values().begin(), log_probabilities.values().end(), 0.0));
          transformer.backward(run.on, weights, batch, activations, d, training.gradient(),
                               training.complete_from());
          training.optimizer().end_micro_batch(batches);
        });
    const auto all = gather(run, sums);
    const double loss = std::accumulate(all.begin(), all.end(), 0.0) / tokens;
    char note[40];
    std::snprintf(note, sizeof note, "loss %.4f", loss);
    return StepReport{{{"tokens", static_cast<std::int64_t>(tokens)}, {"loss", loss}}, note};
  });

  const double nll = mean_nll(run, transformer, trainee.prepare(), heldout_sequences);
  const auto values = trainee.finish(checkpoints);
  run.ranks.barrier();
  log_line(run, "finetune: " + std::to_string(nll) + " nats a token on " + std::to_string(heldout.size()) +
                    " held-out documents -> " + target.string());
  if (run.root()) save_model_folder(settings.initial, target, transformer, values, folder.data_type);
  run.mark_done("finetune", fingerprint);
}

}  // namespace infalign::stages
