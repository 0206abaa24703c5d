#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>
#include <tuple>

#include "distributed/collective_cases.h"
#include "distributed/communicator.h"

namespace infalign::distributed {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class Threads : public ::testing::TestWithParam<std::tuple<testing::CollectiveCase, int>> {};

TEST_P(Threads, GiveTheKnownResult) {
  const auto& [collective, ranks] = GetParam();
  EXPECT_NO_THROW(run_threads(ranks, collective.run));
}

INSTANTIATE_TEST_SUITE_P(Collectives, Threads,
                         ::testing::Combine(::testing::ValuesIn(testing::kCollectiveCases),
                                            ::testing::Range(1, 6)),
                         [](const auto& tested) {
                           return std::string(std::get<0>(tested.param).name) + "_on_" +
                                  std::to_string(std::get<1>(tested.param));
                         });

TEST(ThreadsBarrier, HoldsEverybodyUntilTheLastHasCome) {
  std::atomic<int> arrived = 0;
  run_threads(4, [&](Communicator& ranks) {
    for (int round = 1; round <= 50; ++round) {
      ++arrived;
      ranks.barrier();
      EXPECT_EQ(arrived, 4 * round);
      ranks.barrier();
    }
  });
}

TEST(ThreadsFloatSum, FollowsRankOrder) {
  run_threads(3, [](Communicator& ranks) {
    const std::vector<Interval> intervals = shares(3, 3);
    const std::vector<float> values(3, ranks.rank() == 1 ? 0x1p24f : 1.0f);
    std::vector<float> mine(1);
    ranks.reduce_scatter_sum(std::span<const float>(values), intervals, std::span(mine));
    EXPECT_EQ(mine[0], (1.0f + 0x1p24f) + 1.0f);
  });
}

struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A collective of one kind after the other.
void mixed_collective(Communicator& ranks, int i) {
  std::vector<double> values(5, 1.0);
  const std::vector<Interval> intervals = shares(5, ranks.size());
  switch (i % 4) {
    case 0:
      return ranks.barrier();
    case 1:
      return ranks.all_reduce_sum(std::span(values));
    case 2:
      return ranks.all_gather(std::span(values), intervals);
    case 3:
      return static_cast<void>(ranks.all_gather_bytes(std::as_bytes(std::span(values))));
  }
}

/// The rank throws instead of its (0-based) collective `when` of five; how many others got PeerFailed.
int peers_failed_when(int size, int thrower, int when) {
  std::atomic<int> peers_failed = 0;
  EXPECT_THROW(run_threads(size,
                           [&](Communicator& ranks) {
                             try {
                               for (int i = 0; i < 5; ++i) {
                                 if (ranks.rank() == thrower && i == when) throw Broken("disk full");
                                 mixed_collective(ranks, i);
                               }
                             } catch (const PeerFailed& failure) {
                               EXPECT_THAT(failure.what(), HasSubstr("disk full"));
                               ++peers_failed;
                               throw;
                             }
                           }),
               Broken);
  return peers_failed;
}

TEST(ThreadsFailure, ReachesTheOthersWheneverARankThrows) {
  for (int thrower = 0; thrower < 4; ++thrower)
    for (int when = 0; when < 5; ++when) EXPECT_EQ(peers_failed_when(4, thrower, when), 3);
}

TEST(ThreadsFailure, NeverHangsWhateverTheMoment) {
  std::mt19937 random(8);
  for (int repetition = 0; repetition < 200; ++repetition) {
    const int size = 2 + static_cast<int>(random() % 4);
    const int thrower = static_cast<int>(random() % static_cast<unsigned>(size));
    EXPECT_EQ(peers_failed_when(size, thrower, static_cast<int>(random() % 5)), size - 1);
  }
}

TEST(ThreadsFailure, AfterTheLastCollectiveConcernsNobodyElse) {
  std::atomic<int> finished = 0;
  EXPECT_THROW(run_threads(3,
                           [&](Communicator& ranks) {
                             ranks.barrier();
                             if (ranks.rank() == 2) throw Broken("too late to matter to others");
                             ++finished;
                           }),
               Broken);
  EXPECT_EQ(finished, 2);
}

TEST(ThreadsFailure, MayBeAnyException) {
  EXPECT_THROW(run_threads(2,
                           [](Communicator& ranks) {
                             if (ranks.rank() == 1) throw 42;
                             ranks.barrier();
                           }),
               int);
}

TEST(ThreadsFailure, IsLasting) {
  std::atomic<int> failures = 0;
  EXPECT_THROW(run_threads(2,
                           [&](Communicator& ranks) {
                             if (ranks.rank() == 1) throw Broken("");
                             for (int attempt = 0; attempt < 3; ++attempt) {
                               try {
                                 ranks.barrier();
                               } catch (const PeerFailed&) {
                                 ++failures;
                               }
                             }
                           }),
               Broken);
  EXPECT_EQ(failures, 3);
}

TEST(ThreadsEarlyReturn, FailsThoseWhoStillWait) {
  for (int leaver = 0; leaver < 3; ++leaver) {
    EXPECT_THAT(
        [&] {
          run_threads(3, [&](Communicator& ranks) {
            ranks.barrier();
            if (ranks.rank() == leaver) return;
            ranks.barrier();
          });
        },
        ThrowsMessage<PeerFailed>(AllOf(HasSubstr("barrier #2"), HasSubstr("returned after barrier #1"))));
  }
}

TEST(ThreadsAbort, FailsTheOthers) {
  EXPECT_THAT(
      [&] {
        run_threads(3, [](Communicator& ranks) {
          if (ranks.rank() == 1) return ranks.abort(3);
          ranks.barrier();
        });
      },
      ThrowsMessage<PeerFailed>(HasSubstr("rank 1 aborted with exit code 3")));
}

TEST(ThreadsMismatch, NamesBothCalls) {
  EXPECT_THAT(
      [] {
        run_threads(2, [](Communicator& ranks) {
          ranks.barrier();
          std::vector<double> values(3);
          if (ranks.rank() == 0) ranks.barrier();
          if (ranks.rank() == 1) ranks.all_reduce_sum(std::span(values));
        });
      },
      ThrowsMessage<CollectiveMismatch>(AllOf(HasSubstr("rank 1 is in all_reduce_sum #2 (3 float64)"),
                                              HasSubstr("rank 0 is in barrier #2"))));
}

TEST(ThreadsMismatch, IsFoundInCountsElementsRootsAndIntervals) {
  const auto disagree = [](auto&& call) {
    std::atomic<int> told = 0;
    EXPECT_THROW(run_threads(3,
                             [&](Communicator& ranks) {
                               try {
                                 call(ranks, ranks.rank() == 2);
                               } catch (const CollectiveMismatch&) {
                                 ++told;
                                 throw;
                               }
                             }),
                 CollectiveMismatch);
    EXPECT_EQ(told, 3);
  };
  disagree([](Communicator& ranks, bool odd) {
    std::vector<double> values(odd ? 4 : 3);
    ranks.all_reduce_sum(std::span(values));
  });
  disagree([](Communicator& ranks, bool odd) {
    std::vector<double> doubles(3);
    std::vector<std::int64_t> integers(3);
    if (odd) return ranks.all_reduce_sum(std::span(doubles));
    ranks.all_reduce_sum(std::span(integers));
  });
  disagree([](Communicator& ranks, bool odd) {
    std::array<std::byte, 4> data{};
    ranks.broadcast(data, odd ? 1 : 0);
  });
  disagree([](Communicator& ranks, bool odd) {
    std::vector<float> values(9);
    ranks.all_gather(std::span(values), odd ? shares(9, 3, 2) : shares(9, 3));
  });
}

TEST(RunThreads, NeedsARank) {
  EXPECT_THROW(run_threads(0, [](Communicator&) {}), std::invalid_argument);
}

}  // namespace
}  // namespace infalign::distributed
