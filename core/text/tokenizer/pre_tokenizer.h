// The "pre_tokenizer" of tokenizer.json: cuts a stretch of text into the pieces no token may cross, and
// rewrites them (spaces, bytes) in the model's alphabet. Each construct is a function from pieces to pieces;
// to add one is to add a line to the table in pre_tokenizer.cpp.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/text/tokenizer/construct.h"
#include "core/text/tokenizer/pieces.h"

namespace infalign::text {

using PreTokenizer = std::function<void(Pieces& pieces)>;

/// The pre-tokenizers in the order they act. Errors: InputError naming file and construct.
std::vector<PreTokenizer> build_pre_tokenizers(const Json& part, const std::string& file);

}  // namespace infalign::text
