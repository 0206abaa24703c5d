// Cutting pieces at the matches of a pattern, with the five behaviours that tokenizer.json knows.
#pragma once

#include <string_view>

#include "core/text/tokenizer/pattern.h"
#include "core/text/tokenizer/pieces.h"

namespace infalign::text {

/// What becomes of a match. Of "a-b" cut at "-":
enum class Behaviour {
  kRemoved,             // "a" "b"
  kIsolated,            // "a" "-" "b"
  kMergedWithPrevious,  // "a-" "b"
  kMergedWithNext,      // "a" "-b"
  kContiguous,          // "a" "-" "b", and of several matches in a row, one piece
};

/// Cuts every piece by itself; with `invert`, what does not match counts as the match.
void split(Pieces& pieces, const Pattern& pattern, Behaviour behaviour, bool invert);

}  // namespace infalign::text
