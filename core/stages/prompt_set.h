// Prompts as a run uses them: read, split into those that are trained on and those that are held out, freed
// of what is too long or there twice, as ids.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/experiment/experiment.h"
#include "core/text/records.h"
#include "core/text/tokenizer.h"

namespace infalign::stages {

/// Prompts as text and as ids of the policy's tokenizer.
struct PromptSet {
  std::vector<std::string> text;  // what the ids say
  std::vector<std::vector<std::int32_t>> tokens;
  std::vector<std::uint64_t> id;  // all different
};

struct PromptSets {
  PromptSet train, heldout;
  std::vector<std::string> notes;  // how many were left out or cut, and why: a line each, for people
};

/// The prompts of `settings`, messages written by the template that `chat` gives. Held out are those of
/// settings.heldout, or the share settings.heldout_fraction of settings.train; what is held out is not
/// trained on, even where it stands in both files. A prompt of more than settings.max_tokens, or of more than
/// `max_positions` leaves beside a response of `max_new_tokens`, is refused, left out or loses its beginning,
/// as settings.too_long says. Of equal prompts one is kept; settings.max_train and max_heldout count what is
/// left. Errors: InputError for a bad file, a prompt that is refused, or a side with no prompts.
PromptSets read_prompt_sets(const experiment::Prompts& settings, const text::Tokenizer& tokenizer,
                            const text::ChatTemplateSource& chat, std::int64_t max_positions,
                            std::int64_t max_new_tokens);

}  // namespace infalign::stages
