#include "core/text/tokenizer/splitting.h"

#include <utility>

namespace infalign::text {
namespace {

/// Collects the parts of one piece, match or not, from left to right, and gives them on as the behaviour
/// wants.
class Cutter {
 public:
  Cutter(Behaviour behaviour, std::vector<Span>& pieces) : behaviour_(behaviour), pieces_(pieces) {}

  void begin_piece() {
    first_ = pieces_.size();
    after_match_ = false;
  }

  void add(Span part, bool is_match) {
    if (part.begin == part.end) return;
    const bool joins = pieces_.size() > first_ && joins_last(is_match);
    after_match_ = is_match;
    if (is_match && behaviour_ == Behaviour::kRemoved) return;
    if (joins) {
      pieces_.back().end = part.end;
    } else {
      pieces_.push_back(part);
    }
  }

 private:
  bool joins_last(bool is_match) const {
    switch (behaviour_) {
      case Behaviour::kMergedWithPrevious:
        return is_match && !after_match_;
      case Behaviour::kMergedWithNext:
        return !is_match && after_match_;
      case Behaviour::kContiguous:
        return is_match == after_match_;
      default:
        return false;
    }
  }

  Behaviour behaviour_;
  std::vector<Span>& pieces_;
  std::size_t first_ = 0;  // of the present piece
  bool after_match_ = false;
};

}  // namespace

void split(Pieces& pieces, const Pattern& pattern, Behaviour behaviour, bool invert) {
  std::vector<Span> cut;
  cut.reserve(pieces.spans.size());
  std::vector<Span> matches;
  Cutter cutter(behaviour, cut);
  for (std::size_t i = 0; i < pieces.spans.size(); ++i) {
    matches.clear();
    pattern(pieces[i], matches);
    const std::size_t offset = pieces.spans[i].begin;
    std::size_t done = offset;
    cutter.begin_piece();
    for (const Span match : matches) {
      cutter.add({done, offset + match.begin}, invert);
      cutter.add({offset + match.begin, offset + match.end}, !invert);
      done = offset + match.end;
    }
    cutter.add({done, pieces.spans[i].end}, invert);
  }
  // A removed beginning leaves no piece that stands at the beginning of the text.
  if (pieces.place == Place::kBeginning && !cut.empty() && cut.front().begin != pieces.spans.front().begin)
    pieces.place = Place::kInside;
  pieces.spans = std::move(cut);
}

}  // namespace infalign::text
