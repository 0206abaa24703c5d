#include "core/stages/report/html.h"

#include <gmock/gmock.h>

namespace infalign::stages {
namespace {

TEST(Number, RoundsAndKeepsItsSign) {
  EXPECT_EQ(number(0.75, 2), "0.75");
  EXPECT_EQ(number(-0.0156), "−0.016");
  EXPECT_EQ(number(-0.0001, 2), "0.00");
  EXPECT_EQ(number(kMissing), "–");
  EXPECT_EQ(signed_number(0.02, 2), "+0.02");
  EXPECT_EQ(signed_number(-0.02, 2), "−0.02");
}

TEST(Number, IsShortWhateverItsSize) {
  EXPECT_EQ(short_number(3.04e-7), "3.04e-07");
  EXPECT_EQ(short_number(120), "120");
  EXPECT_EQ(short_number(-0.5), "−0.5");
}

TEST(Duration, IsWhatAPersonWouldSay) {
  EXPECT_EQ(duration(59.4), "59 s");
  EXPECT_EQ(duration(148), "2 min 28 s");
  EXPECT_EQ(duration(7320), "2 h 2 min");
}

TEST(Escape, LeavesNoMarkupAndNoControlCharacters) {
  EXPECT_EQ(escape("<a href=\"x\" b='y'>&\n"), "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;\n");
  EXPECT_EQ(escape(std::string_view("a\0b\x7F", 4)),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
  EXPECT_EQ(escape("Straße, 日本"), "Straße, 日本");
}

TEST(EstimateHtml, WithoutIntervalIsTheBareValue) {
  EXPECT_EQ(estimate_html({0.5, kMissing, kMissing}), "0.500");
  EXPECT_THAT(estimate_html({0.5, 0.4, 0.6}), testing::HasSubstr("0.400 to 0.600"));
}

}  // namespace
}  // namespace infalign::stages
