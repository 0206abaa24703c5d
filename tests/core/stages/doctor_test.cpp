#include "core/stages/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/scratch_folder.h"

namespace infalign::stages {
namespace {

using nlohmann::ordered_json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

ordered_json two_ranks() {
  ordered_json ranks = ordered_json::array();
  for (int rank = 0; rank < 2; ++rank)
    ranks.push_back({{"rank", rank},
                     {"host", rank == 0 ? "h1" : "h2"},
                     {"version", "1.0 (abc)"},
                     {"bfloat16", true},
                     {"clock_skew", 0.01 * rank},
                     {"write_failure", ""},
                     {"same_folder", true},
                     {"free_bytes", 1'000'000'000}});
  return ranks;
}

std::vector<std::string> problems_with(const std::string& key, const ordered_json& value,
                                       std::int64_t disk = 1'000'000) {
  auto ranks = two_ranks();
  ranks[1][key] = value;
  return problems_of(ranks, disk);
}

TEST(Doctor, FindsNothingWhereAllIsWell) { EXPECT_THAT(problems_of(two_ranks(), 1'000'000), IsEmpty()); }

TEST(Doctor, FindsAnotherVersion) {
  EXPECT_THAT(problems_with("version", "1.0 (def)"),
              ElementsAre(AllOf(HasSubstr("rank 1 on h2 runs infalign 1.0 (def)"), HasSubstr("1.0 (abc)"))));
}

TEST(Doctor, FindsAClockThatIsWrong) {
  EXPECT_THAT(problems_with("clock_skew", -7.25),
              ElementsAre(HasSubstr("the clock of rank 1 on h2 is 7.2 s behind")));
}

TEST(Doctor, FindsAFolderThatCannotBeWrittenOrIsNotShared) {
  EXPECT_THAT(problems_with("write_failure", "/out: Permission denied"),
              ElementsAre(HasSubstr("rank 1 on h2 cannot write: /out: Permission denied")));
  EXPECT_THAT(problems_with("same_folder", false), ElementsAre(HasSubstr("it has to be shared")));
}

TEST(Doctor, FindsADiskThatIsTooSmall) {
  EXPECT_THAT(
      problems_with("free_bytes", 2'000'000'000, 3'000'000'000),
      ElementsAre(HasSubstr("rank 0"), HasSubstr("rank 1 on h2 sees 2.0 GB free in the output folder; "
                                                 "the run takes 3.0 GB")));
  EXPECT_THAT(problems_with("free_bytes", 5, 0), IsEmpty());  // not known
}

TEST(Doctor, FindsProcessorsThatDiffer) {
  EXPECT_THAT(problems_with("bfloat16", false), ElementsAre(HasSubstr("bfloat16")));
}

TEST(Doctor, ExaminesAllRanksAndLeavesNothingBehind) {
  const ScratchFolder scratch;
  std::vector<ordered_json> findings(3);
  distributed::run_threads(3, [&](distributed::Communicator& ranks) {
    findings[static_cast<std::size_t>(ranks.rank())] = examine(
        ranks, {.output = scratch.path() / "output", .version = "1.0 (abc)", .threads = 2, .disk_bytes = 1});
  });
  EXPECT_EQ(findings[0], findings[2]);
  EXPECT_THAT(findings[0]["problems"], IsEmpty());
  ASSERT_EQ(findings[0]["ranks"].size(), 3);
  for (const auto& rank : findings[0]["ranks"]) {
    EXPECT_GT(rank["write_megabytes_per_second"], 0);
    EXPECT_GT(rank["free_bytes"], 0);
    EXPECT_LT(std::abs(rank["clock_skew"].get<double>()), 1);
  }
  EXPECT_GT(findings[0]["all_reduce"]["gigabytes_per_second"], 0);
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path() / "output"));
  const std::string table = doctor_table(findings[0]);
  EXPECT_THAT(table, AllOf(HasSubstr("all-reduce of 16 MiB: "), HasSubstr("1.0 (abc)")));
}

}  // namespace
}  // namespace infalign::stages
