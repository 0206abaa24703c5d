#include "core/text/tokenizer/unicode.h"

#include <gtest/gtest.h>

namespace infalign::text {
namespace {

TEST(Unicode, ComposesAndDecomposes) {
  EXPECT_EQ(normalized("e\u0301 A\u030A", NormalForm::kNfc), "\u00E9 \u00C5");
  EXPECT_EQ(normalized("\u00E9", NormalForm::kNfd), "e\u0301");
  EXPECT_EQ(normalized("ﬁ①", NormalForm::kNfc), "ﬁ①");
  EXPECT_EQ(normalized("ﬁ①e\u0301", NormalForm::kNfkc), "fi1\u00E9");
  EXPECT_EQ(normalized("\u1112\u1161\u11AB", NormalForm::kNfc), "한");
  EXPECT_EQ(normalized("한", NormalForm::kNfd), "\u1112\u1161\u11AB");
}

TEST(Unicode, KeepsWhatLooksLikeAnEnd) {
  const std::string text("a\0e\u0301\0", 6);
  EXPECT_EQ(normalized(text, NormalForm::kNfc), std::string("a\0\u00E9\0", 5));
}

/// Dot below (class 220) comes before acute (230), however they were written; equal classes keep their order.
TEST(Unicode, OrdersMarks) {
  EXPECT_EQ(normalized("q\u0301\u0323", NormalForm::kNfd), "q\u0323\u0301");
  EXPECT_EQ(normalized("q\u0301\u0300", NormalForm::kNfd), "q\u0301\u0300");
  EXPECT_EQ(normalized("e\u0301\u0323", NormalForm::kNfc), "\u1EB9\u0301");
}

TEST(Unicode, ALongRunOfMarksIsNoHarder) {
  std::string marks = "e";
  std::string ordered = "e";
  for (int i = 0; i < 200'000; ++i) marks += i % 2 ? "\u0323" : "\u0307";
  for (int i = 0; i < 200'000; ++i) ordered += i < 100'000 ? "\u0323" : "\u0307";
  EXPECT_EQ(normalized(marks, NormalForm::kNfd), ordered);
}

TEST(Unicode, ClassesGoBeyondAscii) {
  for (const char32_t space :
       {U' ', U'\t', U'\n', U'\r', U'\u0085', U'\u00A0', U'\u2003', U'\u2028', U'\u3000'})
    EXPECT_TRUE(is_white_space(space)) << static_cast<unsigned>(space);
  for (const char32_t other : {U'a', U'\u200B', U'\u180E', U'\uFEFF', U'\x1C'})
    EXPECT_FALSE(is_white_space(other)) << static_cast<unsigned>(other);
  for (const char32_t number : {U'7', U'٣', U'Ⅷ', U'½'}) EXPECT_TRUE(is_number(number));
  EXPECT_FALSE(is_number(U'x'));
  for (const char32_t word : {U'a', U'é', U'日', U'5', U'_', U'\u0301', U'\u200D', U'Ⅷ'})
    EXPECT_TRUE(is_word(word));
  for (const char32_t other : {U' ', U'-', U'½', U'😀'}) EXPECT_FALSE(is_word(other));
}

}  // namespace
}  // namespace infalign::text
