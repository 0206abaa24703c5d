#include "core/stages/progress.h"

#include <gmock/gmock.h>

#include <sstream>

namespace infalign::stages {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

/// A progress display with a clock that the test moves.
class ProgressTest : public testing::Test {
 protected:
  Progress::Display display(bool redraw, std::size_t width = 100) {
    return {&shown_, redraw, width, [this] { return now_; }};
  }
  void wait(double seconds) { now_ += seconds; }
  std::vector<std::string> lines() const {
    std::vector<std::string> result;
    std::istringstream stream(shown_.str());
    for (std::string line; std::getline(stream, line);) result.push_back(line);
    return result;
  }

  std::ostringstream shown_;
  double now_ = 1000;
};

TEST_F(ProgressTest, LogGetsALineEveryTenSecondsAndTheLast) {
  Progress progress("align infalign", 120, true, display(false));
  for (int step = 1; step <= 50; ++step) {
    wait(0.5);
    progress.update(step, "kl 0.43");
  }
  progress.finish("kl 0.50");
  ASSERT_EQ(lines().size(), 3u);
  EXPECT_EQ(lines()[0], "align infalign  20/120  2.0/s  0:50 left  kl 0.43");
  EXPECT_EQ(lines()[1], "align infalign  40/120  2.0/s  0:40 left  kl 0.43");
  EXPECT_EQ(lines()[2], "align infalign  50/120 in 0:25  kl 0.50");
}

TEST_F(ProgressTest, StepsDoneBeforeTheStartDoNotCountAsSpeed) {
  Progress progress("align raw", 200, true, display(false));
  wait(11);
  progress.update(100);  // resumed here: no rate yet
  wait(20);
  progress.update(120);
  EXPECT_EQ(lines()[0], "align raw  100/200");
  EXPECT_EQ(lines()[1], "align raw  120/200  1.0/s  1:20 left");
}

TEST_F(ProgressTest, RateFollowsAChangeWithoutJumping) {
  Progress progress("calibrate", 100000, true, display(false));
  progress.update(0);
  wait(20);
  progress.update(2000);  // 100 a second
  wait(15);
  progress.update(2750);  // now 50 a second: 1/e of the old rate is left
  EXPECT_THAT(lines().back(), HasSubstr("  68/s  "));
}

TEST_F(ProgressTest, SlowStepsAreCountedByTheMinute) {
  Progress progress("finetune", 10, true, display(false));
  progress.update(0);
  wait(60);
  progress.update(3);
  EXPECT_EQ(lines().back(), "finetune  3/10  3.0/min  2:20 left");
}

TEST_F(ProgressTest, OtherRanksAreSilent) {
  Progress progress("align", 10, false, display(false));
  wait(100);
  progress.update(5);
  progress.finish();
  EXPECT_EQ(shown_.str(), "");
}

TEST_F(ProgressTest, TerminalLineIsRedrawnInPlace) {
  Progress progress("align", 100, true, display(true));
  progress.update(0);
  wait(1);
  progress.update(50, "win .71");
  EXPECT_THAT(shown_.str(), testing::StartsWith("\ralign  ━"));
  EXPECT_THAT(shown_.str(), HasSubstr("━─"));
  EXPECT_THAT(shown_.str(), HasSubstr("50/100  50/s  0:01 left  win .71"));
  EXPECT_THAT(shown_.str(), Not(HasSubstr("\n")));
  progress.finish();
  EXPECT_THAT(shown_.str(), EndsWith("\n"));
}

TEST_F(ProgressTest, TerminalLineIsNotRedrawnMoreOftenThanSeen) {
  Progress progress("align", 1000, true, display(true));
  for (int step = 0; step < 1000; ++step) {
    wait(0.001);
    progress.update(step);
  }
  const std::string text = shown_.str();
  EXPECT_LE(std::count(text.begin(), text.end(), '\r'), 10);
}

TEST_F(ProgressTest, NarrowTerminalCutsAtACharacter) {
  Progress progress("align", 10, true, display(true, 12));
  wait(1);
  progress.update(5, "β β β β β β");
  EXPECT_EQ(shown_.str(), "\ralign  5/10 \x1b[K");
}

TEST_F(ProgressTest, ExceptionLeavesTheCursorOnItsOwnLine) {
  {
    Progress progress("align", 10, true, display(true));
    wait(1);
    progress.update(5);
  }
  EXPECT_THAT(shown_.str(), EndsWith("\n"));
}

}  // namespace
}  // namespace infalign::stages
