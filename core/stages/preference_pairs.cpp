#include "core/stages/preference_pairs.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/storage/durable.h"
#include "core/text/records.h"
#include "kernels/random/philox.h"

namespace infalign::stages {
namespace {

std::uint64_t hash(const std::string& text) {
  return std::stoull(storage::Fingerprint().add(text).hex(), nullptr, 16);
}

/// A number in [0, 1) that says to which part of the data a pair belongs: the same prompt is never on both
/// sides of a split.
double split_position(const text::Preference& preference) {
  const auto& key = preference.prompt.empty() ? preference.chosen : preference.prompt;
  return kernels::random_uniform({0, kernels::Purpose::kSplit}, hash(key), 0, 0);
}

bool in_part(double position, const std::string& part) {
  if (part == "first_half") return position < 0.5;
  if (part == "second_half") return position >= 0.5;
  return true;
}

PreferencePair tokenize(const text::Tokenizer& tokenizer, const text::Preference& preference) {
  if (preference.prompt.empty())
    return {{}, tokenizer.encode(preference.chosen), tokenizer.encode(preference.rejected)};
  return {tokenizer.encode(preference.prompt, !preference.is_chat),
          tokenizer.encode_continuation(preference.chosen),
          tokenizer.encode_continuation(preference.rejected)};
}

/// Cuts the beginnings of sequences that are longer than `most`; true if there were any.
bool truncate(PreferencePair& pair, std::size_t most) {
  const auto keep_end = [](std::vector<std::int32_t>& ids, std::size_t count) {
    if (ids.size() <= count) return false;
    ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(count));
    return true;
  };
  if (pair.prompt.empty()) {
    const bool chosen = keep_end(pair.chosen, most), rejected = keep_end(pair.rejected, most);
    return chosen || rejected;
  }
  const bool chosen = keep_end(pair.chosen, most - 1), rejected = keep_end(pair.rejected, most - 1);
  return keep_end(pair.prompt, most - std::max(pair.chosen.size(), pair.rejected.size())) || chosen ||
         rejected;
}

}  // namespace

PreferencePairs read_preference_pairs(const experiment::Reward& settings, const text::Tokenizer& tokenizer,
                                      std::int64_t max_positions, const text::ChatTemplateSource& chat) {
  PreferencePairs read;
  const auto most = static_cast<std::size_t>(std::min(settings.max_tokens, max_positions));
  for (const auto& preference : text::read_preferences(settings.preferences, chat)) {
    const double position = split_position(preference);
    if (!in_part(position, settings.part)) continue;
    PreferencePair pair = tokenize(tokenizer, preference);
    const bool too_long = truncate(pair, most);
    if (too_long && settings.too_long == "drop") {
      ++read.dropped;
      continue;
    }
    read.truncated += too_long;
    // Within its part, the last share of a finer hash is held out.
    const double finer = kernels::random_uniform(
        {1, kernels::Purpose::kSplit},
        hash(preference.prompt.empty() ? preference.chosen : preference.prompt), 0, 0);
    (finer < settings.heldout_fraction ? read.heldout : read.train)
        .push_back(static_cast<std::int64_t>(read.pairs.size()));
    read.pairs.push_back(std::move(pair));
  }
  if (read.train.empty())
    throw InputError(settings.preferences.string() + ": no preference pairs left to train on" +
                     (read.dropped > 0 ? " (" + read.too_long() + ")" : ""));
  return read;
}

std::string PreferencePairs::too_long() const {
  if (dropped > 0) return std::to_string(dropped) + " pairs too long, left out";
  return truncated > 0 ? std::to_string(truncated) + " pairs too long, without their beginning" : "";
}

std::int64_t pairs_per_micro_batch(const experiment::Reward& settings,
                                   const experiment::Distributed& distributed) {
  return std::max<std::int64_t>(
      1, std::min<std::int64_t>(settings.pairs_per_step, 4 * distributed.micro_batch_prompts));
}

std::int64_t reward_steps(const experiment::Reward& settings, std::int64_t train_pairs) {
  return std::max<std::int64_t>(1, settings.epochs * train_pairs / settings.pairs_per_step);
}

}  // namespace infalign::stages
