#include "core/text/tokenizer/added_tokens.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace infalign::text {
namespace {

using testing::ElementsAre;

/// The stretches of `text`; an added token as "[written form that it took]".
std::vector<std::string> cut(const std::vector<AddedToken>& tokens, std::string_view text) {
  AddedTokenFinder finder;
  for (const AddedToken& token : tokens) finder.add(token.content, token);
  std::vector<std::string> found;
  for (const Stretch& stretch : finder.cut(text)) {
    const std::string part(text.substr(stretch.span.begin, stretch.span.end - stretch.span.begin));
    found.push_back(stretch.token ? "[" + part + "]" : part);
  }
  return found;
}

TEST(AddedTokens, TheLeftmostAndThereTheLongest) {
  EXPECT_THAT(cut({{.content = "<a>"}, {.content = "<a><b>"}, {.content = "a"}}, "x<a><b><a>>a"),
              ElementsAre("x", "[<a><b>]", "[<a>]", ">", "[a]"));
  EXPECT_THAT(cut({{.content = "abc"}, {.content = "bcde"}}, "abcde"), ElementsAre("[abc]", "de"));
  EXPECT_THAT(cut({{.content = "abcd"}, {.content = "b"}}, "abcx"), ElementsAre("a", "[b]", "cx"));
}

TEST(AddedTokens, NoneInNoTextAndNoEmptyOnes) {
  EXPECT_THAT(cut({{.content = "a"}}, ""), ElementsAre());
  EXPECT_THAT(cut({{.content = ""}}, "b"), ElementsAre("b"));
}

TEST(AddedTokens, TakeWhiteSpaceWithThem) {
  EXPECT_THAT(cut({{.content = "<l>", .strips_left = true}}, "a \u3000<l> <l> b"),
              ElementsAre("a", "[ \u3000<l>]", "[ <l>]", " b"));
  EXPECT_THAT(cut({{.content = "<r>", .strips_right = true}}, "a <r> \n<r>  "),
              ElementsAre("a ", "[<r> \n]", "[<r>  ]"));
}

/// The first has taken the space that the second would strip.
TEST(AddedTokens, DoNotTakeWhatIsTaken) {
  EXPECT_THAT(cut({{.content = "<b>", .strips_left = true, .strips_right = true}}, "<b> <b>"),
              ElementsAre("[<b> ]", "[<b>]"));
}

TEST(AddedTokens, SingleWordsStandAlone) {
  const std::vector<AddedToken> tokens = {{.content = "cat", .single_word = true}};
  EXPECT_THAT(cut(tokens, "cat, cats (cat) concat écat cat"),
              ElementsAre("[cat]", ", cats (", "[cat]", ") concat écat ", "[cat]"));
}

}  // namespace
}  // namespace infalign::text
