#include "core/text/tokenizer/splitting.h"

#include <gmock/gmock.h>

namespace infalign::text {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> pieces_of(const Pieces& pieces) {
  std::vector<std::string> found;
  for (std::size_t i = 0; i < pieces.spans.size(); ++i) found.emplace_back(pieces[i]);
  return found;
}

std::vector<std::string> cut_text(std::string text, Behaviour behaviour, bool invert = false) {
  Pieces pieces(std::move(text), Place::kBeginning);
  split(pieces, literal_pattern("-"), behaviour, invert);
  return pieces_of(pieces);
}

/// The examples of the tokenizers library's own documentation.
TEST(Splitting, EveryBehaviour) {
  const std::string text = "the-final--countdown";
  EXPECT_THAT(cut_text(text, Behaviour::kRemoved), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(cut_text(text, Behaviour::kIsolated), ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(cut_text(text, Behaviour::kMergedWithPrevious),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(cut_text(text, Behaviour::kMergedWithNext), ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(cut_text(text, Behaviour::kContiguous), ElementsAre("the", "-", "final", "--", "countdown"));
}

TEST(Splitting, AtTheEnds) {
  EXPECT_THAT(cut_text("-a-", Behaviour::kMergedWithPrevious), ElementsAre("-", "a-"));
  EXPECT_THAT(cut_text("-a-", Behaviour::kMergedWithNext), ElementsAre("-a", "-"));
  EXPECT_THAT(cut_text("--", Behaviour::kRemoved), IsEmpty());
  EXPECT_THAT(cut_text("--", Behaviour::kContiguous), ElementsAre("--"));
}

TEST(Splitting, InvertedTheRestIsTheMatch) {
  EXPECT_THAT(cut_text("a-b", Behaviour::kRemoved, true), ElementsAre("-"));
  EXPECT_THAT(cut_text("a--b", Behaviour::kMergedWithNext, true), ElementsAre("a-", "-", "b"));
}

TEST(Splitting, CutsEachPieceByItself) {
  Pieces pieces("a-b--c", Place::kInside);
  split(pieces, literal_pattern("b-"), Behaviour::kIsolated, false);
  split(pieces, literal_pattern("-"), Behaviour::kMergedWithNext, false);
  EXPECT_THAT(pieces_of(pieces), ElementsAre("a", "-", "b", "-", "-c"));
}

TEST(Splitting, ARemovedBeginningIsNoBeginningAnyMore) {
  Pieces kept("a-b", Place::kBeginning);
  split(kept, literal_pattern("-"), Behaviour::kRemoved, false);
  EXPECT_EQ(kept.place_of(0), Place::kBeginning);
  EXPECT_EQ(kept.place_of(1), Place::kInside);
  Pieces removed("-b", Place::kBeginning);
  split(removed, literal_pattern("-"), Behaviour::kRemoved, false);
  EXPECT_EQ(removed.place_of(0), Place::kInside);
}

}  // namespace
}  // namespace infalign::text
