#include "distributed/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace infalign::distributed {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr double kLimit = 5, kNow = 100;

/// Four ranks on two hosts that all wait in barrier #7 since a moment ago.
class Ranks {
 public:
  Ranks() : ranks_(4) {
    for (int rank = 0; rank < 4; ++rank) {
      RankRecord& of = (*this)[rank];
      of.host = rank < 2 ? "h1" : "h2";
      of.state.where = "stage align, step 3";
      of.heard = of.changed = kNow - 0.2;
      wait(rank, 7, 0.2);
    }
  }
  RankRecord& operator[](int rank) { return ranks_[static_cast<std::size_t>(rank)]; }

  /// The rank waits in that call for so long.
  void wait(int rank, std::uint64_t sequence, double seconds) {
    (*this)[rank].state.collective = {sequence, Collective::kBarrier, Element::kByte, 0, 0};
    (*this)[rank].state.inside = true;
    (*this)[rank].changed = kNow - seconds;
  }
  /// The rank has computed something else than a collective for so long, without progress.
  void stand(int rank, double seconds, const std::string& phase) {
    wait(rank, 6, seconds);
    (*this)[rank].state.inside = false;
    (*this)[rank].state.phase = phase;
  }
  void leave(int rank, Presence how, double ago) {
    (*this)[rank].presence = how;
    (*this)[rank].gone = kNow - ago;
  }
  std::optional<Verdict> verdict() const { return judge(ranks_, kNow, kLimit); }
  std::string message() const { return verdict() ? verdict()->message : "none"; }

 private:
  std::vector<RankRecord> ranks_;
};

TEST(Verdict, IsNoneWhileAllIsWell) { EXPECT_EQ(Ranks().message(), "none"); }

TEST(Verdict, NamesTheSilentRankAndWhatTheOthersWaitIn) {
  Ranks ranks;
  ranks.stand(2, 6, "sample");
  ranks[2].heard = kNow - 6;
  EXPECT_EQ(
      ranks.message(),
      "rank 2 on h2 has given no sign of life for 6.0 s (the process is stopped, or its host or link is "
      "gone); last known at stage align, step 3, phase sample, after barrier #6; ranks 0, 1 and 3 wait "
      "in barrier #7");
}

TEST(Verdict, NamesAllRanksOfALostHost) {
  Ranks ranks;
  for (const int rank : {2, 3}) ranks[rank].heard = kNow - 6;
  EXPECT_THAT(ranks.message(), AllOf(StartsWith("rank 2 on h2 "), HasSubstr("the same holds of rank 3"),
                                     EndsWith("ranks 0 and 1 wait in barrier #7")));
}

TEST(Verdict, WaitsForARankThatWorks) {
  Ranks ranks;
  for (const int rank : {0, 1, 3}) ranks.wait(rank, 7, 600);
  ranks.stand(2, 1, "sample");
  EXPECT_EQ(ranks.message(), "none");
}

TEST(Verdict, DoesNotMindALongStandstillThatNobodyWaitsFor) {
  Ranks ranks;
  for (int rank = 0; rank < 4; ++rank) ranks.stand(rank, 600, "gradient");
  EXPECT_EQ(ranks.message(), "none");
}

TEST(Verdict, NamesTheRankThatDoesNotGetOn) {
  Ranks ranks;
  for (const int rank : {0, 2, 3}) ranks.wait(rank, 7, 6);
  ranks.stand(1, 8, "gradient");
  EXPECT_THAT(ranks.message(), AllOf(StartsWith("rank 1 on h1 has not got on for 8.0 s"),
                                     HasSubstr("phase gradient, after barrier #6"),
                                     EndsWith("ranks 0, 2 and 3 wait in barrier #7")));
}

TEST(Verdict, TellsSilenceFromAStandstillThatCameBeforeIt) {
  Ranks ranks;
  for (const int rank : {0, 2, 3}) ranks.wait(rank, 7, 6);
  ranks.stand(1, 6, "gradient");
  ranks[1].heard = kNow - 4;
  EXPECT_EQ(ranks.message(), "none");  // as yet
  ranks[1].heard = kNow - 5;
  EXPECT_THAT(ranks.message(), StartsWith("rank 1 on h1 has given no sign of life for 5.0 s"));
}

TEST(Verdict, GivesTheStandstillAsLongAsTheWait) {
  Ranks ranks;
  for (const int rank : {0, 2, 3}) ranks.wait(rank, 7, 1);
  ranks.stand(1, 600, "gradient");
  EXPECT_EQ(ranks.message(), "none");
}

TEST(Verdict, NamesTheRankThatIsACollectiveBehind) {
  Ranks ranks;
  for (const int rank : {0, 1, 2}) ranks.wait(rank, 8, 6);
  ranks.wait(3, 7, 6);
  EXPECT_THAT(ranks.message(), AllOf(StartsWith("rank 3 on h2 has not got on"), HasSubstr("in barrier #7"),
                                     HasSubstr("ranks 0-2 wait in barrier #8")));
}

TEST(Verdict, SaysThatMessagesDoNotGetThroughWhenAllWaitInTheSame) {
  Ranks ranks;
  for (int rank = 0; rank < 4; ++rank) ranks.wait(rank, 8, 6);
  EXPECT_THAT(ranks.message(), AllOf(StartsWith("all ranks have waited for 6.0 s at stage align, step 3"),
                                     HasSubstr("in barrier #8: messages between them do not get through")));
}

TEST(Verdict, NamesARankThatEndedItsWorkTooEarly) {
  Ranks ranks;
  for (const int rank : {0, 1, 2}) ranks.wait(rank, 8, 6);
  ranks.stand(3, 6, "");
  ranks.leave(3, Presence::kLeft, 6);
  EXPECT_THAT(ranks.message(), StartsWith("rank 3 on h2 ended its work while others need it"));
}

TEST(Verdict, LetsRanksEndTheirWorkOneAfterTheOther) {
  Ranks ranks;
  for (const int rank : {1, 2}) ranks.leave(rank, Presence::kLeft, 60);
  ranks.leave(3, Presence::kEnded, 60);
  ranks[3].heard = kNow - 60;
  ranks.stand(0, 60, "");
  ranks[0].heard = kNow;
  EXPECT_EQ(ranks.message(), "none");
}

TEST(Verdict, MissesARankThatIsStoppedBetweenItsWorkAndItsEnd) {
  Ranks ranks;
  for (int rank = 0; rank < 4; ++rank) ranks.leave(rank, Presence::kLeft, 60);
  EXPECT_EQ(ranks.message(), "none");
  ranks[1].heard = kNow - 6;
  EXPECT_THAT(ranks.message(), StartsWith("rank 1 on h1 has given no sign of life for 6.0 s"));
}

TEST(Verdict, OfADeathNamesTheFirstAndTheCodeIsOne) {
  Ranks ranks;
  ranks.leave(1, Presence::kDied, 0.1);
  ranks.leave(3, Presence::kDied, 0.3);
  EXPECT_THAT(ranks.message(),
              AllOf(StartsWith("rank 3 on h2 ended without a word (it was killed, or crashed)"),
                    HasSubstr("the same holds of rank 1"), EndsWith("ranks 0 and 2 wait in barrier #7")));
  EXPECT_EQ(ranks.verdict()->exit_code, 1);
}

TEST(Verdict, OfADeathAndTheErrorsItCausesNamesTheDeath) {
  Ranks ranks;
  ranks.leave(0, Presence::kFailed, 0.3);
  ranks[0].cause = "MPI_Allreduce failed";
  ranks.leave(2, Presence::kDied, 0.1);
  EXPECT_THAT(ranks.message(), AllOf(StartsWith("rank 2 on h2"), Not(HasSubstr("MPI_Allreduce"))));
}

TEST(Verdict, OfAnErrorTellsItsCauseAndCodeAndWhoWaits) {
  Ranks ranks;
  ranks.stand(3, 0.1, "rewards");
  ranks.leave(3, Presence::kFailed, 0.1);
  ranks[3].cause = "critic: is truncated";
  ranks[3].exit_code = 3;
  EXPECT_EQ(ranks.message(),
            "rank 3 on h2, stage align, step 3: critic: is truncated [phase rewards, after barrier #6; ranks "
            "0-2 wait in barrier #7]");
  EXPECT_EQ(ranks.verdict()->exit_code, 3);
}

TEST(Verdict, OfAnErrorOnAllRanksTellsThatOfTheLowest) {
  Ranks ranks;
  for (int rank = 0; rank < 4; ++rank) {
    ranks.leave(rank, Presence::kFailed, rank == 2 ? 0.3 : 0.1);
    ranks[rank].cause = "no space left";
  }
  EXPECT_EQ(ranks.message(), "rank 0 on h1, stage align, step 3: no space left");
}

TEST(Verdict, LeavesRanksAloneThatReportToOthers) {
  Ranks ranks;
  ranks[2].watched = false;
  ranks[2].heard = 0;
  EXPECT_EQ(ranks.message(), "none");
}

TEST(RankList, IsShort) {
  EXPECT_EQ(rank_list(std::vector{4}), "rank 4");
  EXPECT_EQ(rank_list(std::vector{1, 0}), "ranks 0 and 1");
  EXPECT_EQ(rank_list(std::vector{0, 1, 2, 5, 7, 8}), "ranks 0-2, 5, 7 and 8");
}

// A courier's wait is a wait for others, though no collective of the thread that computes.
TEST(Verdict, NamesTheRankThatCouriersWaitFor) {
  Ranks ranks;
  for (const int rank : {0, 1, 3}) {
    ranks.wait(rank, 6, 6);
    ranks[rank].state.phase = "wait for courier";
  }
  ranks.stand(2, 5.5, "sample");
  EXPECT_EQ(ranks.message(),
            "rank 2 on h2 has not got on for 5.5 s; last known at stage align, step 3, phase sample, after "
            "barrier #6; ranks 0, 1 and 3 wait for their couriers after barrier #6");
  ranks[2].changed = kNow - 1;
  EXPECT_EQ(ranks.message(), "none") << "it works";
}

}  // namespace
}  // namespace infalign::distributed
