// Preferences as the reward stage trains on them: read, split into train and held-out, as ids. It stands
// apart from the training so that a plan can tell its work without doing it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/experiment/experiment.h"
#include "core/text/records.h"
#include "core/text/tokenizer.h"

namespace infalign::stages {

/// A pair as ids: prompt (empty when there is none: then the answers stand alone), chosen and rejected.
struct PreferencePair {
  std::vector<std::int32_t> prompt, chosen, rejected;
  double margin = 0;  // by which the chosen answer's reward should be larger

  std::int64_t tokens() const {
    return static_cast<std::int64_t>(prompt.size() + chosen.size() + rejected.size());
  }
};

struct PreferencePairs {
  std::vector<PreferencePair> pairs;
  std::vector<std::int64_t> train, heldout;  // indices into pairs
  std::int64_t truncated = 0, dropped = 0;   // pairs that were too long

  /// What became of pairs that were too long, for people; "" if there were none.
  std::string too_long() const;
};

/// The pairs of settings.part, messages written by `chat`; a stop token that it writes behind an answer is
/// left off, and `closing`, if any, put behind every answer (closing_token.h). Pairs of a sequence longer
/// than settings.max_tokens or `max_positions` are refused, dropped or lose its beginning, as
/// settings.too_long says. Errors: InputError for a bad file, a pair that is refused, or when nothing is left
/// to train on.
PreferencePairs read_preference_pairs(const experiment::Reward& settings, const text::Tokenizer& tokenizer,
                                      std::optional<std::int32_t> closing, std::int64_t max_positions,
                                      const text::ChatTemplateSource& chat);

std::int64_t pairs_per_micro_batch(const experiment::Reward& settings,
                                   const experiment::Distributed& distributed);
/// Steps over settings.epochs epochs of the training pairs.
std::int64_t reward_steps(const experiment::Reward& settings, std::int64_t train_pairs);

}  // namespace infalign::stages
