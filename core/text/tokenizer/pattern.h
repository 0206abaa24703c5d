// The "pattern" of a construct, {"String": ...} or {"Regex": ...}: shared by the constructs that replace and
// split.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "core/text/tokenizer/construct.h"
#include "core/text/tokenizer/regex.h"

namespace infalign::text {

/// Appends the matches in `text`, from left to right, not overlapping; none of a String pattern that is
/// empty.
using Pattern = std::function<void(std::string_view text, std::vector<Span>& matches)>;

Pattern literal_pattern(std::string literal);

/// Errors: InputError naming the construct.
Pattern build_pattern(const Construct& construct, std::string_view key);

/// A function that writes `content` in place of each match.
std::function<std::string(std::string_view)> build_replacement(const Construct& construct);

}  // namespace infalign::text
