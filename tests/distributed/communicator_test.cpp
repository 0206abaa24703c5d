#include "distributed/communicator.h"

#include <gtest/gtest.h>

#include "distributed/collective_cases.h"

namespace infalign::distributed {
namespace {

TEST(Shares, CoverTheWholeInOrderAtGrainsAndDifferByAtMostOneGrain) {
  for (const std::int64_t n : {0, 1, 5, 63, 64, 65, 1000, 4096}) {
    for (const int ranks : {1, 2, 3, 7, 16}) {
      for (const std::int64_t grain : {1, 8, 64}) {
        const std::vector<Interval> result = shares(n, ranks, grain);
        ASSERT_EQ(std::ssize(result), ranks);
        std::int64_t end = 0, fewest = n, most = 0;
        for (const Interval& share : result) {
          EXPECT_EQ(share.begin, end);
          EXPECT_TRUE(share.begin % grain == 0 || share.begin == n);
          end = share.end;
          const std::int64_t grains = (share.size() + grain - 1) / grain;
          fewest = std::min(fewest, grains);
          most = std::max(most, grains);
        }
        EXPECT_EQ(end, n);
        EXPECT_LE(most - fewest, 1) << n << " over " << ranks << " by " << grain;
      }
    }
  }
}

TEST(Shares, HoldForBuffersFarBeyondAnInt) {
  const std::int64_t n = std::int64_t{1} << 61;
  const std::vector<Interval> result = shares(n, 1024, 1024);
  EXPECT_EQ(result.back().end, n);
  for (const Interval& share : result) EXPECT_EQ(share.size(), n / 1024);
}

TEST(Shares, RefuseNonsense) {
  EXPECT_THROW(shares(-1, 1), std::invalid_argument);
  EXPECT_THROW(shares(1, 0), std::invalid_argument);
  EXPECT_THROW(shares(1, 1, 0), std::invalid_argument);
}

TEST(CollectiveCall, ReadsAsAPersonWouldSayIt) {
  EXPECT_EQ(to_string(CollectiveCall{}), "no collective");
  EXPECT_EQ(to_string({17, Collective::kAllReduceSum, Element::kFloat64, 3}),
            "all_reduce_sum #17 (3 float64)");
  EXPECT_EQ(to_string({4, Collective::kBroadcast, Element::kByte, 80, 2}),
            "broadcast #4 (80 bytes from rank 2)");
  EXPECT_EQ(to_string({5, Collective::kBarrier}), "barrier #5");
}

class Local : public ::testing::TestWithParam<testing::CollectiveCase> {};

TEST_P(Local, ActsAsOneRankOfOne) {
  const auto local = make_local();
  EXPECT_EQ(local->rank(), 0);
  EXPECT_EQ(local->size(), 1);
  EXPECT_TRUE(local->root());
  EXPECT_NO_THROW(GetParam().run(*local));
}

INSTANTIATE_TEST_SUITE_P(Collectives, Local, ::testing::ValuesIn(testing::kCollectiveCases),
                         [](const auto& tested) { return tested.param.name; });

TEST(LastCollective, IsNumberedAndNamed) {
  const auto local = make_local();
  EXPECT_EQ(local->last_collective(), CollectiveCall{});
  local->barrier();
  std::vector<double> values(3);
  local->all_reduce_max(std::span(values));
  EXPECT_EQ(local->last_collective(), (CollectiveCall{2, Collective::kAllReduceMax, Element::kFloat64, 3}));
}

}  // namespace
}  // namespace infalign::distributed
