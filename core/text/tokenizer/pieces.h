// What flows from the normalizers through the pre-tokenizers to the model: a stretch of text between added
// tokens, cut into the pieces that the model sees one by one.
#pragma once

#include <string>
#include <vector>

#include "core/text/tokenizer/regex.h"

namespace infalign::text {

/// Where a stretch stands; decides whether a tokenizer puts its dummy space before it.
enum class Place {
  kBeginning,     // nothing precedes it
  kInside,        // an added token precedes it
  kContinuation,  // it goes on with text that was tokenised before: never a dummy space
};

struct Pieces {
  Pieces(std::string stretch, Place where)
      : text(std::move(stretch)), spans{{0, text.size()}}, place(where) {}

  std::string_view operator[](std::size_t i) const {
    return std::string_view(text).substr(spans[i].begin, spans[i].end - spans[i].begin);
  }

  /// Where piece i stands: only the first piece can be the beginning of the text.
  Place place_of(std::size_t i) const { return place == Place::kBeginning && i > 0 ? Place::kInside : place; }

  std::string text;
  std::vector<Span> spans;  // ascending, not empty, within text
  Place place;
};

}  // namespace infalign::text
