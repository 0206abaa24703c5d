#include "core/text/tokenizer/regex.h"

#include <gmock/gmock.h>

namespace infalign::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  std::vector<Span> spans;
  Regex(pattern).find_all(text, spans);
  std::vector<std::string> found;
  for (const Span span : spans) found.emplace_back(text.substr(span.begin, span.end - span.begin));
  return found;
}

TEST(Regex, FindsFromLeftToRight) {
  EXPECT_THAT(matches("a+|b", "aab aba"), ElementsAre("aa", "b", "a", "b", "a"));
  EXPECT_THAT(matches("x", "aab"), IsEmpty());
}

TEST(Regex, EmptyMatchesDoNotHaltIt) { EXPECT_THAT(matches("a*", "baa"), ElementsAre("", "aa", "")); }

TEST(Regex, KnowsUnicode) {
  EXPECT_THAT(matches("\\p{L}+", "né 日本 12"), ElementsAre("né", "日本"));
  EXPECT_THAT(matches("\\p{N}{1,3}", "1234٣Ⅷ"), ElementsAre("123", "4٣Ⅷ"));
  EXPECT_THAT(matches("\\d+", "12٣ Ⅷ"), ElementsAre("12٣"));
  EXPECT_THAT(matches("(?i:'s)", "'S '\u017F"), ElementsAre("'S", "'\u017F"));  // long s
  EXPECT_THAT(matches("\\s+", "a\u0085\u00A0b\u3000c\u180Ed"), ElementsAre("\u0085\u00A0", "\u3000"));
  EXPECT_THAT(matches("\\S+", "a\u180Eb c"), ElementsAre("a\u180Eb", "c"));
  EXPECT_THAT(matches("[\\s]+", "a\u180E b"), ElementsAre(" "));
  EXPECT_THAT(matches("\\w+", "e\u0301_1 ½"), ElementsAre("e\u0301_1"));
}

TEST(Regex, LooksAhead) { EXPECT_THAT(matches("\\s+(?!\\S)|\\s+", "a   b  "), ElementsAre("  ", " ", "  ")); }

TEST(Regex, LineBoundsHoldAtEveryLine) {
  EXPECT_THAT(matches("^.|.$", "ab\ncd"), ElementsAre("a", "b", "c", "d"));
}

/// The pre-tokenizer of BLOOM has a class within a class.
TEST(Regex, FlattensNestedClasses) {
  EXPECT_EQ(oniguruma_to_pcre2("[^(a|[.,!])]+"), "[^(a|.,!)]+");
  EXPECT_THAT(matches(" ?[^(\\s|[.,!?…])]+", "Hi, you (there)!"), ElementsAre("Hi", " you", "there"));
  EXPECT_EQ(oniguruma_to_pcre2("[[:alpha:]x]"), "[[:alpha:]x]");
  EXPECT_EQ(oniguruma_to_pcre2("\\[a]"), "\\[a]");
}

TEST(Regex, RefusesWhatPcre2WouldReadDifferently) {
  for (const char* pattern : {"[a[^b]]", "[\\w&&[^a]]", "[\\H]"})
    EXPECT_THAT([&] { Regex{pattern}; }, ThrowsMessage<std::invalid_argument>(HasSubstr("not supported")))
        << pattern;
  for (const char* pattern : {"(a", "[a", "a\\", "\\p{Nonsense}", "\\C"})
    EXPECT_THROW(Regex{pattern}, std::invalid_argument) << pattern;
}

}  // namespace
}  // namespace infalign::text
