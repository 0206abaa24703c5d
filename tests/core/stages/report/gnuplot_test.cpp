#include "core/stages/report/gnuplot.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>

namespace infalign::stages {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kTerminal = "set terminal svg size 300,200 noenhanced font 'sans-serif,13'\n";

Drawing draw_or_skip(const std::string& script, const std::string& id = "one") {
  return draw("gnuplot", kTerminal + script, id);
}
bool without_gnuplot() {
  return draw_or_skip("plot x\n").trouble.find("could not be started") != std::string::npos;
}

class GnuplotTest : public testing::Test {
 protected:
  void SetUp() override {
    if (without_gnuplot()) GTEST_SKIP() << "gnuplot is not installed";
  }
};

TEST_F(GnuplotTest, ColoursBecomeStyleVariables) {
  const Drawing drawing = draw_or_skip("plot x lc " + gnuplot_colour(Ink::kSeries, 2) + ", -x lc " +
                                       gnuplot_colour(Ink::kGrid) + "\n");
  EXPECT_THAT(drawing.svg, HasSubstr("var(--series-2)"));
  EXPECT_THAT(drawing.svg, HasSubstr("var(--grid)"));
  EXPECT_THAT(drawing.svg, testing::StartsWith("<svg"));
}

TEST_F(GnuplotTest, DrawingsOnOnePageShareNoNames) {
  const std::string script = "plot x with points\n";
  EXPECT_THAT(draw_or_skip(script, "one").svg, HasSubstr("'one_gpPt0'"));
  EXPECT_THAT(draw_or_skip(script, "one").svg, HasSubstr("'#one_gpPt0'"));
  EXPECT_THAT(draw_or_skip(script, "two").svg, Not(HasSubstr("one_gp")));
}

TEST_F(GnuplotTest, LabelsAreNotInterpreted) {
  const auto trap = std::filesystem::temp_directory_path() / ("infalign_trap_" + std::to_string(getpid()));
  const std::string hostile = "a' \" `touch " + trap.string() + "` \\n $1 {/Bold b}\nset output";
  const Drawing drawing = draw_or_skip("set label " + gnuplot_quote(hostile) + " at 0,0\nplot x\n");
  EXPECT_EQ(drawing.trouble, "");
  EXPECT_FALSE(std::filesystem::exists(trap));
  EXPECT_THAT(drawing.svg, HasSubstr("{/Bold b} set output"));
}

TEST_F(GnuplotTest, BrokenScriptIsReportedNotThrown) {
  const Drawing drawing = draw_or_skip("plot nonsense(\n");
  EXPECT_EQ(drawing.svg, "");
  EXPECT_THAT(drawing.trouble, HasSubstr("gnuplot failed"));
}

TEST(Draw, ProgramThatIsNotThereIsReportedNotThrown) {
  const Drawing drawing = draw("no-such-program-here", "", "one");
  EXPECT_EQ(drawing.svg, "");
  EXPECT_THAT(drawing.trouble, HasSubstr("no-such-program-here could not be started (No such file"));
}

}  // namespace
}  // namespace infalign::stages
