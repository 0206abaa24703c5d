// Stage `reward`: a reward model from human preferences by the Bradley-Terry likelihood. Chosen and rejected
// share their prompt's rows. Leaves `output/models/reward`, and `output/models/judge` from the `judge:`
// section.
#include <algorithm>
#include <cstdio>
#include <numeric>

#include "core/alignment/estimators.h"
#include "core/error.h"
#include "core/stages/adapter_folder.h"
#include "core/stages/closing_token.h"
#include "core/stages/model_folder.h"
#include "core/stages/pair_loss.h"
#include "core/stages/precision.h"
#include "core/stages/preference_pairs.h"
#include "core/stages/run.h"
#include "core/stages/shuffle.h"
#include "core/stages/trainee.h"
#include "core/stages/training.h"
#include "core/storage/durable.h"

namespace infalign::stages {
namespace {

struct PackedPairs {
  model::PackedBatch batch;
  std::vector<std::int32_t> rows;  // chosen, rejected, chosen, rejected, ...: each answer's last row
};

PackedPairs pack(const std::vector<PreferencePair>& pairs, std::span<const std::int64_t> which) {
  PackedPairs packed;
  const auto add = [&](const std::vector<std::int32_t>& answer, std::int32_t prompt) {
    const auto segment = answer.empty() ? prompt
                         : prompt < 0   ? packed.batch.add(answer)
                                        : packed.batch.add(answer, prompt);
    const auto& placed = packed.batch.segments[static_cast<std::size_t>(segment)];
    packed.rows.push_back(placed.begin + placed.length - 1);
  };
  for (const auto i : which) {
    const auto& pair = pairs[static_cast<std::size_t>(i)];
    const auto prompt = pair.prompt.empty() ? -1 : packed.batch.add(pair.prompt);
    add(pair.chosen, prompt);
    add(pair.rejected, prompt);
  }
  return packed;
}

std::vector<double> margins(const std::vector<PreferencePair>& pairs, std::span<const std::int64_t> which) {
  std::vector<double> margins;
  for (const auto i : which) margins.push_back(pairs[static_cast<std::size_t>(i)].margin);
  return margins;
}

PairSums gathered_sums(const Run& run, const std::vector<PairSums>& own) {
  PairSums total;
  for (const auto& sums : gather(run, own)) total.loss += sums.loss, total.correct += sums.correct;
  return total;
}

void train(Run& run, const experiment::Reward& settings, const std::string& name,
           const std::filesystem::path& target) {
  run.at("stage reward (" + name + ")");
  const auto backbone = run.experiment.backbone(settings);
  const auto seed = run.experiment.seed + settings.seed_offset;
  storage::Fingerprint inputs;
  inputs.add(with_dtype(fingerprint_folder(backbone), run.experiment))
      .add_file(settings.preferences)
      .add(settings.part)
      .add(settings.too_long)
      .add(settings.read_at)
      .add(run.experiment.model.chat_template)
      .add(to_text(settings.optimizer))
      .add(to_text(settings.lora));
  const std::vector<double> numbers = {static_cast<double>(seed),
                                       static_cast<double>(settings.epochs),
                                       static_cast<double>(settings.pairs_per_step),
                                       static_cast<double>(settings.max_tokens),
                                       static_cast<double>(settings.layers),
                                       settings.margin,
                                       settings.centre_rewards,
                                       settings.heldout_fraction,
                                       static_cast<double>(run.experiment.distributed.micro_batch_prompts)};
  inputs.add(to_text(numbers));
  const auto fingerprint = with_policy_storage(inputs.hex(), run.experiment, settings.lora);
  const auto checkpoints = run.experiment.output / "checkpoints" / ("." + name);
  if (run.is_done(name, fingerprint, target)) {
    log_line(run, name + ": trained before, kept");
    return;
  }

  const auto shards = make_shards(run);
  auto folder = load_as_reward_model(backbone, seed, settings.layers, shards.get());
  const auto& transformer = folder.transformer;
  Trainee trainee(run, name + ".lora", folder, settings.lora, seed, shards.get());
  const auto described = description_folder(backbone);
  const auto data = read_preference_pairs(
      settings, folder.tokenizer, closing_token(described, folder.tokenizer, settings.read_at),
      transformer.config().max_positions,
      [&] { return text::ChatTemplate::load(described, run.experiment.model.chat_template); });
  if (!data.too_long().empty()) log_line(run, name + ": " + data.too_long());
  const auto& pairs = data.pairs;
  const auto& train_pairs = data.train;
  const auto& heldout_pairs = data.heldout;
  const auto per_batch = pairs_per_micro_batch(settings, run.experiment.distributed);
  const auto steps = reward_steps(settings, static_cast<std::int64_t>(train_pairs.size()));
  Training training(
      run,
      {name, "", steps, settings.optimizer, checkpoints, fingerprint, TrainingPlan().max_skipped_steps,
       micro_batch_count(settings.pairs_per_step, per_batch), trainee.is_sharded(), trainee.gradient_parts()},
      trainee.tensors(), trainee.trainable());
  model::Activations activations;
  kernels::Buffer<float> d_hidden;
  training.run([&](std::int64_t step) {
    const auto& weights = trainee.prepare();
    auto which = shuffled_batch(seed, static_cast<std::int64_t>(train_pairs.size()), settings.pairs_per_step,
                                step - 1);
    for (auto& i : which) i = train_pairs[static_cast<std::size_t>(i)];
    std::vector<PairSums> sums;
    std::vector<double> tokens;
    for_own_micro_batches(
        run, which, per_batch, [&](std::span<const std::int64_t> batch_pairs, std::int64_t batches) {
          const auto packed = pack(pairs, batch_pairs);
          transformer.forward(run.on, weights, packed.batch, kept_for_gradient(run.experiment), activations);
          const auto rewards = model::score_rows(run.on, transformer, weights, activations, packed.rows);
          const auto own_margins = margins(pairs, batch_pairs);
          const PairLoss loss{own_margins, settings.centre_rewards};
          sums.push_back(loss.sums(rewards));
          tokens.push_back(static_cast<double>(packed.batch.size()));
          const auto d_reward = loss.gradient(rewards, static_cast<double>(which.size()));
          const auto values =
              static_cast<std::size_t>(packed.batch.size() * transformer.config().hidden_size);
          d_hidden.reserve(run.on, values);
          const auto d = d_hidden.span().first(values);
          model::score_rows_backward(run.on, transformer, weights, activations, packed.rows, d_reward, d,
                                     training.gradient());
          transformer.backward(run.on, weights, packed.batch, activations, d, training.gradient(),
                               training.complete_from());
          training.optimizer().end_micro_batch(batches);
        });
    const auto total = gathered_sums(run, sums);
    const auto all_tokens = gather(run, tokens);
    const double count = static_cast<double>(which.size());
    char note[60];
    std::snprintf(note, sizeof note, "loss %.4f, accuracy %.3f", total.loss / count, total.correct / count);
    return StepReport{
        {{"tokens", static_cast<std::int64_t>(std::accumulate(all_tokens.begin(), all_tokens.end(), 0.0))},
         {"loss", total.loss / count},
         {"accuracy", total.correct / count}},
        note};
  });

  const auto& weights = trainee.prepare();
  std::vector<PairSums> sums;
  for_own_micro_batches(run, heldout_pairs, per_batch,
                        [&](std::span<const std::int64_t> batch_pairs, std::int64_t) {
                          const auto packed = pack(pairs, batch_pairs);
                          const auto own_margins = margins(pairs, batch_pairs);
                          sums.push_back(PairLoss{own_margins, settings.centre_rewards}.sums(
                              transformer.score(run.on, weights, packed.batch, packed.rows, activations)));
                        });
  const auto total = gathered_sums(run, sums);
  const auto values = trainee.finish(checkpoints);
  run.ranks.barrier();
  const auto count = static_cast<double>(heldout_pairs.size());
  const bool measured = !heldout_pairs.empty();
  const auto accuracy = measured ? alignment::share_of(total.correct, count) : alignment::Interval95{};
  if (run.root()) {
    save_model_folder(backbone, target, transformer, values, folder.data_type, settings.read_at);
    OrderedJson summary{{"training_pairs", train_pairs.size()},
                        {"heldout_pairs", heldout_pairs.size()},
                        {"truncated_pairs", data.truncated},
                        {"dropped_pairs", data.dropped}};
    if (measured) {
      summary["heldout_accuracy"] = accuracy.value;
      summary["heldout_accuracy_low"] = accuracy.low;
      summary["heldout_accuracy_high"] = accuracy.high;
      summary["heldout_loss"] = total.loss / count;
    }
    storage::write_file_durably(run.experiment.output / (name + ".json"), json_text(summary, 2) + "\n");
  }
  char line[160] = ": no pair held out, ";
  if (measured)
    std::snprintf(line, sizeof line,
                  ": %.1f %% [%.1f, %.1f] of %zu held-out pairs ranked as the annotator did, ",
                  100 * accuracy.value, 100 * accuracy.low, 100 * accuracy.high, heldout_pairs.size());
  log_line(run, name + line + std::to_string(train_pairs.size()) + " learned from -> " + target.string());
  run.mark_done(name, fingerprint);
}

}  // namespace

void train_reward(Run& run) {
  if (run.experiment.reward) train(run, *run.experiment.reward, "reward", run.experiment.reward_folder());
  if (run.experiment.judge) train(run, *run.experiment.judge, "judge", run.experiment.judge_folder());
}

}  // namespace infalign::stages
