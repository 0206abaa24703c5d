// The "decoder" of tokenizer.json: from token strings back to text. Each construct is a function on the list
// of strings, which at the end are joined; to add one is to add a line to the table in decoder.cpp.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/text/tokenizer/construct.h"

namespace infalign::text {

/// `continues`: the tokens go on with text that already stands, so a space at their beginning is no dummy and
/// stays.
using Decoder = std::function<void(std::vector<std::string>& tokens, bool continues)>;

/// The decoders in the order they act; without any, tokens are joined by spaces.
/// Errors: InputError naming file and construct.
std::vector<Decoder> build_decoders(const Json& part, const std::string& file);

}  // namespace infalign::text
