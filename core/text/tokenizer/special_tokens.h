// Which tokens a model folder calls beginning, end and padding. The folder may say so in up to three files;
// the one that generation obeys comes first.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string_view>

#include "core/text/tokenizer.h"

namespace infalign::text {

/// Each of the tokens as the first of these files says that names it: generation_config.json and config.json
/// by id, tokenizer_config.json by name, which `id_of` resolves. Files that are absent are passed over.
/// Errors: InputError naming the file for one that is malformed or names what is not a token.
SpecialTokens read_special_tokens(const std::filesystem::path& model_folder,
                                  const std::function<std::optional<std::int32_t>(std::string_view)>& id_of);

}  // namespace infalign::text
