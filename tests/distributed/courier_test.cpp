#include "distributed/courier.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace infalign::distributed {
namespace {

class Couriers : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(All, Couriers, ::testing::Bool(),
                         [](const auto& tested) { return tested.param ? "WithThread" : "WithoutThread"; });

TEST_P(Couriers, DoJobsInOrder) {
  std::vector<int> done, expected;
  Courier courier(GetParam());
  for (int i = 0; i < 100; ++i) {
    courier.send([&done, i] { done.push_back(i); });
    expected.push_back(i);
  }
  courier.wait();
  EXPECT_EQ(done, expected);
}

TEST(Courier, WaitsUntilSoManyAreLeft) {
  std::atomic<int> done = 0;
  Courier courier(true);
  for (int i = 0; i < 10; ++i) courier.send([&] { ++done; });
  courier.wait_until(3);
  EXPECT_GE(done, 7);
}

TEST(Courier, TellsAFailureOnceAndDoesNothingMore) {
  std::atomic<int> done = 0;
  Courier courier(true);
  courier.send([] { throw std::range_error("lost"); });
  EXPECT_THROW(courier.wait(), std::range_error);
  courier.send([&] { ++done; });
  EXPECT_NO_THROW(courier.wait());
  EXPECT_EQ(done, 0);
}

TEST(Courier, ComputesInOtherThreadsMeanwhile) {
  std::atomic<bool> go = false;
  Courier courier(true);
  courier.send([&] { go.wait(false); });
  go = true;  // reached while the job is in hand
  go.notify_all();
  courier.wait();
}

}  // namespace
}  // namespace infalign::distributed
