#include "core/stages/preference_pairs.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/stages/closing_token.h"
#include "core/stages/data_policy.h"
#include "core/text/records.h"

namespace infalign::stages {
namespace {

/// What decides to which part of the data a pair belongs.
const std::string& split_key(const text::Preference& preference) {
  return preference.prompt.empty() ? preference.chosen : preference.prompt;
}

bool in_part(double position, const std::string& part) {
  if (part == "first_half") return position < 0.5;
  if (part == "second_half") return position >= 0.5;
  return true;
}

PreferencePair tokenize(const text::Tokenizer& tokenizer, const text::Preference& preference,
                        std::optional<std::int32_t> closing) {
  PreferencePair pair;
  if (preference.prompt.empty()) {
    pair = {{}, tokenizer.encode(preference.chosen), tokenizer.encode(preference.rejected), 0};
  } else {
    pair = {tokenizer.encode(preference.prompt, !preference.is_chat),
            tokenizer.encode_continuation(preference.chosen),
            tokenizer.encode_continuation(preference.rejected), 0};
  }
  for (auto* answer : {&pair.chosen, &pair.rejected}) {
    if (preference.is_chat) leave_off_stop(tokenizer, *answer);
    if (closing) answer->push_back(*closing);
  }
  return pair;
}

std::size_t longest_sequence(const PreferencePair& pair) {
  return pair.prompt.size() + std::max(pair.chosen.size(), pair.rejected.size());
}

/// Cuts the beginnings of a pair's sequences that are longer than `most`. One token of a prompt always stays.
void truncate(PreferencePair& pair, std::size_t most, std::optional<std::int32_t> bos) {
  const std::size_t most_answer = pair.prompt.empty() ? most : most - 1;
  for (auto* answer : {&pair.chosen, &pair.rejected})
    truncate_left(*answer, most_answer, pair.prompt.empty() ? bos : std::nullopt);
  if (!pair.prompt.empty())
    truncate_left(pair.prompt, most - std::max(pair.chosen.size(), pair.rejected.size()), bos);
}

}  // namespace

PreferencePairs read_preference_pairs(const experiment::Reward& settings, const text::Tokenizer& tokenizer,
                                      std::optional<std::int32_t> closing, std::int64_t max_positions,
                                      const text::ChatTemplateSource& chat) {
  PreferencePairs read;
  const auto most = static_cast<std::size_t>(std::min(settings.max_tokens, max_positions));
  std::int64_t number = 0;
  for (const auto& preference : text::read_preferences(settings.preferences, chat)) {
    ++number;
    const std::string& key = split_key(preference);
    if (!in_part(split_position(key, 0), settings.part)) continue;
    PreferencePair pair = tokenize(tokenizer, preference, closing);
    pair.margin = preference.margin.value_or(settings.margin);
    if (const auto length = longest_sequence(pair); length > most) {
      if (settings.too_long == "error")
        throw InputError(settings.preferences.string() + ": pair " + std::to_string(number) + " is " +
                         std::to_string(length) + " tokens, more than " + std::to_string(most) +
                         "; raise max_tokens, or set too_long to drop or truncate_left");
      if (settings.too_long == "drop") {
        ++read.dropped;
        continue;
      }
      truncate(pair, most, tokenizer.special().bos);
      ++read.truncated;
    }
    (is_held_out(key, settings.heldout_fraction) ? read.heldout : read.train)
        .push_back(static_cast<std::int64_t>(read.pairs.size()));
    read.pairs.push_back(std::move(pair));
  }
  if (read.train.empty())
    throw InputError(settings.preferences.string() + ": no preference pairs left to train on" +
                     (read.dropped > 0 ? " (" + read.too_long() + ")" : ""));
  return read;
}

std::string PreferencePairs::too_long() const {
  if (dropped > 0) return counted(dropped, "pair") + " too long, left out";
  return truncated > 0 ? counted(truncated, "pair") + " too long, without their beginning" : "";
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
