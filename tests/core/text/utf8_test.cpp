#include "core/text/utf8.h"

#include <gtest/gtest.h>

namespace infalign::text {
namespace {

constexpr auto kNone = std::string_view::npos;

TEST(Utf8, AcceptsTheBoundsOfEachLength) {
  for (const char32_t point :
       {0x0u, 0x7Fu, 0x80u, 0x7FFu, 0x800u, 0xD7FFu, 0xE000u, 0xFFFFu, 0x10000u, 0x10FFFFu}) {
    std::string text = "12345678";
    append_utf8(text, point);
    EXPECT_EQ(find_invalid_utf8(text), kNone) << static_cast<unsigned>(point);
    EXPECT_EQ(code_point_at(text, 8).value, point);
    EXPECT_EQ(code_point_before(text, text.size()).value, point);
    EXPECT_EQ(code_point_before(text, text.size()).length, text.size() - 8);
  }
}

TEST(Utf8, PlacesWhatIsIllFormed) {
  EXPECT_EQ(find_invalid_utf8(""), kNone);
  EXPECT_EQ(find_invalid_utf8("ab\x80"), 2);             // continuation without lead
  EXPECT_EQ(find_invalid_utf8("0123456789ab\xC3"), 12);  // cut short
  EXPECT_EQ(find_invalid_utf8("\xC0\xAF"), 0);           // overlong
  EXPECT_EQ(find_invalid_utf8("\xE0\x9F\xBF"), 0);       // overlong
  EXPECT_EQ(find_invalid_utf8("a\xED\xA0\x80"), 1);      // surrogate
  EXPECT_EQ(find_invalid_utf8("\xF4\x90\x80\x80"), 0);   // beyond U+10FFFF
  EXPECT_EQ(find_invalid_utf8("\xF5\x80\x80\x80"), 0);
  EXPECT_EQ(find_invalid_utf8("é\xE2\x82"), 2);
}

/// The example of The Unicode Standard, table 3-8, and its neighbours.
TEST(Utf8, RepairsOneMarkForEachMaximalSubpart) {
  EXPECT_EQ(repaired_utf8("a\xF1\x80\x80\xE1\x80\xC2z"), "a���z");
  EXPECT_EQ(repaired_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), "��������A");
  EXPECT_EQ(repaired_utf8("\xED\xA0\x80"), "���");
  EXPECT_EQ(repaired_utf8("é日😀"), "é日😀");
}

TEST(Utf8, ReplacesEveryOccurrence) {
  EXPECT_EQ(replaced("a b c", " ", "▁"), "a▁b▁c");
  EXPECT_EQ(replaced("aaa", "aa", "b"), "ba");
  EXPECT_EQ(replaced("", "a", "b"), "");
}

}  // namespace
}  // namespace infalign::text
