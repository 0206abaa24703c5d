// Where a reward model reads: at the last token of a response, or at a stop token that is put behind every
// response, ended or cut off, as most published reward models are trained.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/text/tokenizer.h"

namespace infalign::stages {

/// Leaves off the stop token with which a chat template ends an answer, and the blanks it writes behind, for
/// a reward is read at the answer's own last token or at the closing token, in training as in use.
void leave_off_stop(const text::Tokenizer& tokenizer, std::vector<std::int32_t>& answer);

/// Whether a reward model is read at a stop token. `read_at`: last_token, stop_token, or as_saved for what
/// the config.json of `folder` says under reward_read_at (where it says nothing, last_token). Errors:
/// InputError for another word there.
bool reads_at_stop_token(const std::filesystem::path& folder, const std::string& read_at);

/// What is put behind each response for a reward model to read at; none where it reads at the response's own
/// last token. Errors: InputError also where the tokenizer names no stop token.
std::optional<std::int32_t> closing_token(const std::filesystem::path& folder,
                                          const text::Tokenizer& tokenizer, const std::string& read_at);

/// Makes a reward model's folder say where it is read; as_saved leaves it as it is. For a stop token
/// config.json and tokenizer_config.json name as padding a token that ends no response (the tokenizer's, or
/// else the one that begins a text; where there is neither, none, and transformers takes one sequence at a
/// time), because transformers reads at the last token that is not padding.
void write_read_at(const std::filesystem::path& folder, const std::string& read_at);

}  // namespace infalign::stages
