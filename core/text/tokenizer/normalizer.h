// The "normalizer" of tokenizer.json: rewrites the text before it is cut. Each construct is a function; a
// tokenizer holds the list of those that its file names. To add a construct is to add a line to the table in
// normalizer.cpp.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/text/tokenizer/construct.h"
#include "core/text/tokenizer/pieces.h"

namespace infalign::text {

/// Where the beginning of a text is taken away, nothing stands at its beginning any more: `place` says so
/// then.
using Normalizer = std::function<void(std::string& text, Place& place)>;

/// The normalizers in the order they act. Errors: InputError naming file and construct.
std::vector<Normalizer> build_normalizers(const Json& part, const std::string& file);

}  // namespace infalign::text
