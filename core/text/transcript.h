// Dialogues as HH-RLHF writes them: "\n\nHuman: ...\n\nAssistant: ...". They can be cut where the last answer
// begins, and be made lists of messages, which a model's own chat template writes in its own way.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "core/json/forward.h"

namespace infalign::text {

/// Where the last answer of a transcript begins, behind its "\n\nAssistant:"; nullopt where there is none.
std::optional<std::size_t> last_answer(std::string_view transcript);

/// The turns of a transcript as [{"role": "user" | "assistant", "content"}], without the blanks around them;
/// turns of one side that follow each other are one message, and text before the first is the system's.
OrderedJson messages_of_transcript(std::string_view transcript);

}  // namespace infalign::text
