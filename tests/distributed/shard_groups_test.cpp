#include "distributed/shard_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <stdexcept>

namespace infalign::distributed {
namespace {

using ::testing::ElementsAre;

std::vector<int> members(Communicator& ranks, int rank) {
  return all_gather_concatenated(ranks, std::span<const int>(&rank, 1));
}

TEST(ShardGroups, OneGroupIsAllRanks) {
  run_threads(3, [](Communicator& ranks) {
    for (const int size : {0, 3, 8}) {
      const ShardGroups groups(ranks, size);
      EXPECT_EQ(&groups.group(), &ranks);
      EXPECT_EQ(&groups.owners(), &ranks);
      EXPECT_EQ(groups.copies(), nullptr);
      EXPECT_EQ(groups.shares(9000), parameter_shares(9000, 3));
    }
  });
}

TEST(ShardGroups, GroupsAreRanksThatFollowOneAnother) {
  run_threads(6, [](Communicator& ranks) {
    const ShardGroups groups(ranks, 2);
    const int first = ranks.rank() / 2 * 2;
    EXPECT_THAT(members(groups.group(), ranks.rank()), ElementsAre(first, first + 1));
    EXPECT_THAT(members(groups.owners(), ranks.rank()), ElementsAre(0, 2, 4, 1, 3, 5));
    ASSERT_NE(groups.copies(), nullptr);
    const int place = ranks.rank() % 2;
    EXPECT_THAT(members(*groups.copies(), ranks.rank()), ElementsAre(place, place + 2, place + 4));
  });
}

TEST(ShardGroups, WhatARankOwnsLiesInWhatItHolds) {
  for (const std::int64_t parameters : {0, 1, 1024, 5000, 100 * 1024 + 3})
    run_threads(6, [&](Communicator& ranks) {
      for (const int size : {1, 2, 3, 6}) {
        const ShardGroups groups(ranks, size);
        const auto held = groups.shares(parameters)[static_cast<std::size_t>(groups.group().rank())];
        const auto own = parameter_shares(parameters, 6)[static_cast<std::size_t>(groups.owners().rank())];
        EXPECT_LE(held.begin, own.begin) << parameters << " parameters, groups of " << size;
        EXPECT_GE(held.end, own.end) << parameters << " parameters, groups of " << size;
        EXPECT_EQ(groups.shares(parameters).back().end, parameters);
      }
    });
}

TEST(ShardGroups, TheirCollectivesAreCountedWithTheOthers) {
  run_threads(4, [](Communicator& ranks) {
    const ShardGroups groups(ranks, 2);
    const auto before = ranks.last_collective().sequence;
    groups.copies()->barrier();
    groups.owners().barrier();
    EXPECT_EQ(ranks.last_collective().sequence, before + 2);
    EXPECT_EQ(ranks.last_collective().kind, Collective::kBarrier);
    ranks.barrier();
    EXPECT_EQ(groups.group().last_collective().sequence, before + 3);
  });
}

TEST(ShardGroups, ARankThatFailsFreesThoseInAnotherGroup) {
  const auto fail = [] {
    run_threads(4, [](Communicator& ranks) {
      const ShardGroups groups(ranks, 2);
      if (ranks.rank() == 3) throw std::range_error("the cause");
      groups.copies()->barrier();
      groups.owners().barrier();
    });
  };
  EXPECT_THROW(fail(), std::range_error);
}

TEST(ShardGroups, RefuseWhatDoesNotDivide) {
  run_threads(4, [](Communicator& ranks) {
    EXPECT_THROW(ShardGroups(ranks, 3), std::invalid_argument);
    EXPECT_THROW(ShardGroups(ranks, -1), std::invalid_argument);
  });
}

}  // namespace
}  // namespace infalign::distributed
