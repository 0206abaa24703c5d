#include "core/text/tokenizer/bpe.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "core/text/tokenizer/model.h"

namespace infalign::text {
namespace {

using testing::ElementsAre;
using Ids = std::vector<std::int32_t>;

Ids encoded(const Model& model, std::string text) {
  Ids ids;
  model.encode(Pieces(std::move(text), Place::kBeginning), ids);
  return ids;
}

Ids encoded(const char* part, std::string text) {
  const Json json = Json::parse(part);
  return encoded(build_model(json, "tokenizer.json"), std::move(text));
}

TEST(Bpe, JoinsTheLowestRankThenTheLeftmost) {
  const char* part =
      R"({"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5, "aa": 6},
                         "merges": ["b c", "a b", "a bc", "a a"]})";
  EXPECT_THAT(encoded(part, "abc"), ElementsAre(5));
  EXPECT_THAT(encoded(part, "aaa"), ElementsAre(6, 0));
  EXPECT_THAT(encoded(part, "aab"), ElementsAre(0, 3));
}

TEST(Bpe, WithIgnoreMergesAWholePieceIsItsToken) {
  EXPECT_THAT(encoded(R"({"ignore_merges": true, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": []})", "ab"),
              ElementsAre(2));
  EXPECT_THAT(encoded(R"({"ignore_merges": false, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": []})", "ab"),
              ElementsAre(0, 1));
}

TEST(Bpe, UnknownCharactersBecomeBytesOrUnknownOrNothing) {
  EXPECT_THAT(encoded(R"({"vocab": {"a": 0}, "merges": []})", "xax"), ElementsAre(0));
  EXPECT_THAT(encoded(R"({"vocab": {"a": 0, "?": 1}, "merges": [], "unk_token": "?"})", "xyax"),
              ElementsAre(1, 1, 0, 1));
  EXPECT_THAT(
      encoded(R"({"vocab": {"a": 0, "?": 1}, "merges": [], "unk_token": "?", "fuse_unk": true})", "xyax"),
      ElementsAre(1, 0, 1));
  EXPECT_THAT(encoded(R"({"vocab": {"a": 0, "?": 1, "<0xC3>": 2, "<0xA9>": 3}, "merges": [], "unk_token": "?",
                          "byte_fallback": true})",
                      "aéx"),
              ElementsAre(0, 2, 3, 1));
}

/// The definition, in quadratic time.
std::vector<std::string> merged_by_definition(
    const std::string& text, const std::map<std::pair<std::string, std::string>, int>& ranks) {
  std::vector<std::string> tokens;
  for (const char c : text) tokens.emplace_back(1, c);
  for (;;) {
    int best = std::numeric_limits<int>::max();
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i)
      if (const auto rank = ranks.find({tokens[i], tokens[i + 1]});
          rank != ranks.end() && rank->second < best) {
        best = rank->second;
        at = i;
      }
    if (best == std::numeric_limits<int>::max()) return tokens;
    tokens[at] += tokens[at + 1];
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

/// Heap, links and cuts at uncrossable borders must not show: random merge lists (in random order, so that
/// later tokens come before their parts) over a small alphabet, where ties and overlaps abound.
TEST(Bpe, EqualsTheDefinitionOnRandomMergeLists) {
  std::mt19937 random(1);
  const auto below = [&](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(random);
  };
  for (int round = 0; round < 200; ++round) {
    const std::string alphabet = std::string("abcdef").substr(0, 2 + below(5));
    std::vector<std::string> tokens;
    for (const char c : alphabet) tokens.emplace_back(1, c);
    std::vector<std::pair<std::string, std::string>> merges;
    for (std::size_t n = 1 + below(30); n > 0; --n) {
      const std::pair merge(tokens[below(tokens.size())], tokens[below(tokens.size())]);
      if (merge.first.size() + merge.second.size() > 8 || std::ranges::find(merges, merge) != merges.end())
        continue;
      merges.push_back(merge);
      const std::string joined = merge.first + merge.second;
      if (std::ranges::find(tokens, joined) == tokens.end()) tokens.push_back(joined);
    }
    std::ranges::shuffle(merges, random);

    Json json = {{"vocab", Json::object()}, {"merges", Json::array()}};
    std::map<std::pair<std::string, std::string>, int> ranks;
    for (std::size_t id = 0; id < tokens.size(); ++id) json["vocab"][tokens[id]] = id;
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
      json["merges"].push_back({merges[rank].first, merges[rank].second});
      ranks[merges[rank]] = static_cast<int>(rank);
    }
    const Model model = build_model(json, "random");
    for (int n = 0; n < 20; ++n) {
      std::string text;
      for (std::size_t length = below(40); length > 0; --length) text += alphabet[below(alphabet.size())];
      std::vector<std::string> found;
      for (const std::int32_t id : encoded(model, text))
        found.push_back(tokens[static_cast<std::size_t>(id)]);
      ASSERT_EQ(found, merged_by_definition(text, ranks)) << json.dump() << " " << text;
    }
  }
}

/// A megabyte without a border takes as long as the tests' time limit allows only if merging is not
/// quadratic.
TEST(Bpe, AMegabyteInOnePiece) {
  const char* part = R"({"vocab": {"a": 0, "b": 1, "aa": 2, "aaaa": 3, "aab": 4},
                         "merges": ["a a", "aa aa", "aa b"]})";
  const std::size_t size = std::size_t{1} << 20;
  EXPECT_EQ(encoded(part, std::string(size, 'a')), Ids(size / 4, 3));
  EXPECT_THAT(encoded(part, std::string(size + 2, 'a') + "b").back(), 4);
}

}  // namespace
}  // namespace infalign::text
