// Memory and streams of the CPU, and what a build without a GPU says of one.
#include "kernels/device.h"

#include <cstdint>
#include <utility>

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

TEST(Device, ABufferIsZeroAtFirstWhateverItsSize) {
  for (const std::size_t size : {1, 7, 1000, 100000}) {
    const Buffer<float> buffer(size);
    ASSERT_EQ(buffer.size(), size);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0u);
    for (const float value : buffer.span()) ASSERT_EQ(value, 0.0f);
  }
  EXPECT_EQ(Buffer<float>(0).data(), nullptr);
}

TEST(Device, ABufferGrowsAndNeverShrinks) {
  Buffer<std::int64_t> buffer;
  buffer.reserve(5);
  buffer[4] = 9;
  buffer.reserve(3);
  EXPECT_EQ(buffer.size(), 5u);
  EXPECT_EQ(buffer[4], 9);
  buffer.reserve(Stream(), 6);
  EXPECT_EQ(buffer.size(), 6u);
  EXPECT_EQ(buffer[4], 0);
}

TEST(Device, CopiesOnTheCpuAreThereAtOnce) {
  const Stream on;
  const Floats from{1, 2, 3};
  Buffer<float> there(on, 3), beside(on, 3);
  PinnedBuffer<float> back(on, 3);
  Floats to(3);
  upload(on, std::span<const float>(from), there.data());
  copy(on, 2, there.data(), beside.data());
  fill_zero(on, 1, beside.data());
  download_later(on, 3, beside.data(), back);
  download(on, there.data(), std::span<float>(to));
  Event event;
  event.record(on);
  on.wait(event);
  event.synchronise();
  EXPECT_EQ(to, from);
  EXPECT_THAT(back.span(), ::testing::ElementsAre(0, 2, 0));
}

TEST(Device, WithoutAGpuAStreamOfOneIsRefused) {
  if (cuda_device_count() > 0) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_THROW(Stream{Device::kCuda}, std::runtime_error);
}

}  // namespace
}  // namespace infalign::kernels
