#include "kernels/pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <system_error>

#include "kernels/device.h"

namespace infalign::kernels {
namespace {

constexpr std::size_t kSize = std::size_t{1} << 20;  // floats: 4 MiB

TEST(Pages, WhatIsGivenBackReadsAsZeroAndTheRestStays) {
  for (const auto& [begin, end] : {std::pair<std::size_t, std::size_t>{0, kSize},
                                   {1, kSize - 1},
                                   {5, 5},
                                   {5, 6},
                                   {1000, 1030},
                                   {1024, 4096},
                                   {100'003, 700'001}}) {
    Buffer<float> buffer(kSize);
    std::ranges::fill(buffer.span(), 1.0f);
    give_back(buffer.span().subspan(begin, end - begin));
    for (std::size_t i = 0; i < kSize; ++i)
      ASSERT_EQ(buffer[i], i >= begin && i < end ? 0.0f : 1.0f)
          << i << " of [" << begin << ", " << end << ")";
  }
}

TEST(Pages, TakeMemoryWhenTheyAreWrittenTo) {
#ifdef INFALIGN_SANITIZED
  GTEST_SKIP() << "buffers come from the heap";
#endif
  Buffer<float> buffer(kSize);
  const auto resident = [&] { return resident_bytes(std::as_bytes(buffer.span())); };
  EXPECT_EQ(resident(), 0);
  std::ranges::fill(buffer.span(), 1.0f);
  EXPECT_EQ(resident(), kSize * sizeof(float));
  give_back(buffer.span().first(kSize / 2));
  EXPECT_EQ(resident(), kSize * sizeof(float) / 2);
  buffer[0] = 1;
  EXPECT_GT(resident(), kSize * sizeof(float) / 2);
}

TEST(SharedPages, AreTheSameInThePlaceOfTwoBuffers) {
  if (!has_own_pages(kSize * sizeof(float))) GTEST_SKIP() << "buffers come from the heap";
  constexpr std::size_t kOdd = kSize + 5;  // the last page is not whole
  Buffer<float> one(kOdd), other(kOdd);
  {
    const SharedPages pages(kOdd * sizeof(float)), again(pages.name());
    pages.put_in_place_of(std::as_writable_bytes(one.span()));
    again.put_in_place_of(std::as_writable_bytes(other.span()));
  }
  EXPECT_EQ(other[kOdd - 1], 0.0f);
  std::ranges::fill(one.span(), 1.0f);
  EXPECT_TRUE(std::ranges::all_of(other.span(), [](float value) { return value == 1.0f; }));
  make_read_only(std::as_writable_bytes(one.span()));
  other[3] = 2;
  EXPECT_EQ(one[3], 2.0f);
  one = {};
  EXPECT_EQ(other[3], 2.0f);
}

TEST(SharedPages, AreNotTakenForOthers) {
  const SharedPages pages(1000);
  auto name = pages.name();
  EXPECT_NO_THROW(SharedPages{name});
  ++name.inode;
  EXPECT_THROW(SharedPages{name}, std::system_error);
  name = pages.name();
  name.file = 1 << 20;
  EXPECT_THROW(SharedPages{name}, std::system_error);
  EXPECT_THROW(SharedPages{SharedPages::Name{}}, std::system_error);
}

TEST(Pages, SmallBuffersToo) {
  Buffer<float> buffer(10);
  std::ranges::fill(buffer.span(), 1.0f);
  give_back(buffer.span());
  EXPECT_EQ(buffer[9], 0.0f);
}

}  // namespace
}  // namespace infalign::kernels
