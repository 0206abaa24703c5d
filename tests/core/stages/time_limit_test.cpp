#include "core/stages/time_limit.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace infalign::stages {
namespace {

using Environment = std::map<std::string, std::string>;

std::optional<double> end_of(std::optional<double> minutes, const Environment& environment,
                             double now = 5000) {
  experiment::Checkpoint settings;
  settings.time_limit = minutes;
  return job_end(settings, now, [&](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(JobEnd, IsNoneByItself) { EXPECT_EQ(end_of(std::nullopt, {}), std::nullopt); }

TEST(JobEnd, CountsFromNowWithoutAJob) { EXPECT_EQ(end_of(10, {}), 5600); }

TEST(JobEnd, CountsFromTheStartOfTheJob) {
  EXPECT_EQ(end_of(10, {{"SLURM_JOB_START_TIME", "4000"}}), 4600);
  EXPECT_EQ(end_of(10, {{"INFALIGN_JOB_START", "3000"}, {"SLURM_JOB_START_TIME", "4000"}}), 3600);
}

TEST(JobEnd, IsSlurmsWhereItTellsOne) {
  EXPECT_EQ(end_of(std::nullopt, {{"SLURM_JOB_END_TIME", "9000"}}), 9000);
  EXPECT_EQ(end_of(10, {{"SLURM_JOB_END_TIME", "9000"}}), 5600);
  EXPECT_EQ(end_of(100, {{"SLURM_JOB_END_TIME", "9000"}}), 9000);
}

TEST(JobEnd, PassesOverWhatIsNotATime) {
  EXPECT_EQ(end_of(std::nullopt, {{"SLURM_JOB_END_TIME", "soon"}}), std::nullopt);
  EXPECT_EQ(end_of(10, {{"SLURM_JOB_START_TIME", "0"}}), 5600);
}

TEST(TimeLimit, IsNeverReachedWithoutAnEnd) { EXPECT_FALSE(TimeLimit().reached()); }

TEST(TimeLimit, LeavesRoomForTwiceTheLongestPieceAndAReserve) {
  double now = 1000;
  TimeLimit limit(2000, [&] { return now; });  // reserve: 30 s
  now += 100;
  EXPECT_FALSE(limit.reached());
  for (now += 10; now < 1770; now += 10) EXPECT_FALSE(limit.reached()) << now;
  now = 1770;  // and twice 100 s, and the reserve
  EXPECT_TRUE(limit.reached());
}

TEST(TimeLimit, OfAShortJobReservesAShareOfIt) {
  double now = 0;
  TimeLimit limit(100, [&] { return now; });  // reserve: 5 s
  for (now = 1; now < 93; now += 1) EXPECT_FALSE(limit.reached()) << now;
  now = 93;
  EXPECT_TRUE(limit.reached());
}

}  // namespace
}  // namespace infalign::stages
