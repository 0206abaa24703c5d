// The stand-ins themselves: that they show the mistakes they are there to show. And every operation again,
// under other orders of warps, blocks and streams.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/cuda/language.h"
#include "kernels/cuda/registry.h"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/tensor_cores.h"
#include "support/cuda/block.h"
#include "support/cuda/queue.h"

namespace infalign::kernels {
namespace {

using namespace testing;
using ::testing::HasSubstr;

/// Sets everything back when a test is done.
class StandIns : public ::testing::TestWithParam<std::string> {
 protected:
  void TearDown() override {
    host_cuda::set_schedule({});
    host_cuda::set_streams(host_cuda::Streams::kLazy);
    host_cuda::fail_allocation(-1);
    host_cuda::fail_launch(-1);
    host_cuda::set_memory(std::size_t{1} << 30);
  }
  Stream on{Device::kCuda};
};

// ---- Orders.

TEST_P(StandIns, OperationGivesTheSameBitsInEveryOrder) {
  const Operation& operation = operation_named(GetParam());
  // Small cases and large: a third of each row.
  for (std::size_t at = 0; at < operation.cases.size(); at += 3) {
    const OperationCase& test = operation.cases[at];
    SCOPED_TRACE(test.name);
    host_cuda::set_schedule({});
    host_cuda::set_streams(host_cuda::Streams::kLazy);
    const auto expected = run_on(on, test);
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      host_cuda::set_schedule({seed == 0 ? host_cuda::Order::kReverse : host_cuda::Order::kPriorities, seed});
      host_cuda::set_streams(host_cuda::Streams::kRandom, seed);
      const auto actual = run_on(on, test);
      for (std::size_t i = 0; i < expected.size(); ++i)
        for (std::size_t e = 0; e < expected[i].values.size(); ++e) {
          const double a = expected[i].values[e], b = actual[i].values[e];
          ASSERT_TRUE(a == b || (std::isnan(a) && std::isnan(b)))
              << expected[i].name << "[" << e << "] is " << a << " in order, " << b << " by seed " << seed;
        }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Operations, StandIns, ::testing::ValuesIn(operation_names()), [](const auto& of) {
  std::string name = of.param;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
});

// ---- Blocks.

using Blocks = StandIns;

/// The message of what a launch leads to.
template <class... P, class... A>
std::string failure_of(const Stream& on, void (*kernel)(P...), dim3 block, A... arguments) {
  try {
    cuda::launch(on, kernel, dim3(1), block, 0, arguments...);
    on.synchronise();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

__global__ void half_at_a_barrier() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncwarp();
}
__global__ void at_two_barriers() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void shuffle_with_the_departed(float* x) {
  if (threadIdx.x == 3) return;
  x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}
__global__ void read_what_nobody_wrote(float* x) {
  INFALIGN_SHARED(float, memory, [64]);
  x[threadIdx.x] = memory[threadIdx.x];
}
/// Each thread reads what the thread 32 further on wrote, without a barrier between.
__global__ void read_without_a_barrier(float* x) {
  INFALIGN_SHARED(float, memory, [64]);
  memory[threadIdx.x] = static_cast<float>(threadIdx.x);
  x[threadIdx.x] = memory[(threadIdx.x + 32) % 64];
}

TEST_F(Blocks, BarriersThatNotAllReachAreToldWithTheirPlaces) {
  EXPECT_EQ(failure_of(on, half_at_a_barrier, 64), "");  // those that return wait no longer
  EXPECT_THAT(failure_of(on, at_two_barriers, 64), HasSubstr("two barriers: thread 32 of block (0, 0, 0)"));
}

TEST_F(Blocks, ShufflesWithLanesThatAreNotThereAreTold) {
  Buffer<float> x(on, 32);
  EXPECT_THAT(failure_of(on, shuffle_with_the_departed, 32, x.data()), HasSubstr("returned"));
}

TEST_F(Blocks, OfWholeWarpsOnly) {
  EXPECT_THAT(failure_of(on, at_two_barriers, 33), HasSubstr("whole warps"));
  EXPECT_THAT(failure_of(on, at_two_barriers, 1056), HasSubstr("1024"));
}

TEST_F(Blocks, SharedMemoryIsNotANumberAtFirst) {
  Buffer<float> x(on, 64);
  cuda::launch(on, read_what_nobody_wrote, dim3(1), dim3(64), 0, x.data());
  std::vector<float> values(64);
  download(on, static_cast<const float*>(x.data()), std::span<float>(values));
  for (const float value : values) EXPECT_TRUE(std::isnan(value));
}

TEST_F(Blocks, AMissingBarrierShowsInSomeOrder) {
  bool shown = false;
  for (const auto order :
       {host_cuda::Order::kForward, host_cuda::Order::kReverse, host_cuda::Order::kPriorities}) {
    host_cuda::set_schedule({order, 1});
    Buffer<float> x(on, 64);
    cuda::launch(on, read_without_a_barrier, dim3(1), dim3(64), 0, x.data());
    std::vector<float> values(64);
    download(on, static_cast<const float*>(x.data()), std::span<float>(values));
    for (std::size_t i = 0; i < 64; ++i) shown = shown || values[i] != static_cast<float>((i + 32) % 64);
  }
  EXPECT_TRUE(shown);
}

// ---- Tensor cores, by the PTX ISA's description of mma.m16n8k16 and ldmatrix.

using TensorCores = StandIns;

__global__ void load_four(bool transposed, const Bfloat16* from, std::uint32_t* to) {
  INFALIGN_SHARED(Bfloat16, rows, [32 * 8]);
  for (unsigned i = 0; i < 8; ++i) rows[8 * threadIdx.x + i] = from[8 * threadIdx.x + i];
  __syncwarp();
  std::uint32_t matrices[4];
  if (transposed)
    cuda::load_transposed(rows + 8 * threadIdx.x, matrices);
  else
    cuda::load_matrices(rows + 8 * threadIdx.x, matrices);
  for (unsigned i = 0; i < 4; ++i) to[4 * threadIdx.x + i] = matrices[i];
}

TEST_F(TensorCores, MatricesLieInRegistersAsTheInstructionSetSays) {
  for (const bool transposed : {false, true}) {
    Buffer<Bfloat16> from(on, 256);
    Buffer<std::uint32_t> to(on, 128);
    std::vector<Bfloat16> places(256);  // of four matrices, one after the other
    std::iota(places.begin(), places.end(), Bfloat16{0});
    upload(on, std::span<const Bfloat16>(places), from.data());
    cuda::launch(on, load_four, dim3(1), dim3(32), 0, transposed, from.data(), to.data());
    std::vector<std::uint32_t> registers(128);
    download(on, static_cast<const std::uint32_t*>(to.data()), std::span<std::uint32_t>(registers));
    for (unsigned lane = 0; lane < 32; ++lane)
      for (unsigned matrix = 0; matrix < 4; ++matrix) {
        const unsigned group = lane / 4, pair = lane % 4 * 2, begin = 64 * matrix;
        const unsigned lower = begin + (transposed ? 8 * pair + group : 8 * group + pair);
        const unsigned upper = lower + (transposed ? 8 : 1);
        EXPECT_EQ(registers[4 * lane + matrix], lower | upper << 16) << lane << " " << matrix;
      }
  }
}

/// sum [16, 8] += left [16, 16] x right [16, 8].
__global__ void multiply_once(const Bfloat16* left, const Bfloat16* right, float* sum) {
  const unsigned group = threadIdx.x / 4, pair = threadIdx.x % 4 * 2;
  const auto both = [](Bfloat16 lower, Bfloat16 upper) { return lower | std::uint32_t{upper} << 16; };
  const auto of_left = [&](unsigned row, unsigned column) {
    return both(left[16 * row + column], left[16 * row + column + 1]);
  };
  const auto of_right = [&](unsigned row, unsigned column) {
    return both(right[8 * row + column], right[8 * (row + 1) + column]);
  };
  const std::uint32_t a[4] = {of_left(group, pair), of_left(group + 8, pair), of_left(group, pair + 8),
                              of_left(group + 8, pair + 8)};
  float* const upper = sum + 8 * group + pair;
  float* const lower = upper + 8 * 8;
  float c[4] = {upper[0], upper[1], lower[0], lower[1]};
  cuda::multiply_add(a, of_right(pair, group), of_right(pair + 8, group), c);
  upper[0] = c[0];
  upper[1] = c[1];
  lower[0] = c[2];
  lower[1] = c[3];
}

TEST_F(TensorCores, AProductIsThePlainOne) {
  std::vector<Bfloat16> left, right;
  std::vector<float> sum(16 * 8), expected;  // of small whole numbers, which lose nothing
  for (unsigned i = 0; i < 16 * 16; ++i) left.push_back(to_bfloat16(static_cast<float>(i * 7 % 23) - 11));
  for (unsigned i = 0; i < 16 * 8; ++i) right.push_back(to_bfloat16(static_cast<float>(i * 5 % 19) - 9));
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = static_cast<float>(i);
  for (std::size_t row = 0; row < 16; ++row)
    for (std::size_t column = 0; column < 8; ++column) {
      expected.push_back(sum[8 * row + column]);
      for (std::size_t k = 0; k < 16; ++k)
        expected.back() += from_bfloat16(left[16 * row + k]) * from_bfloat16(right[8 * k + column]);
    }
  Buffer<Bfloat16> a(on, left.size()), b(on, right.size());
  Buffer<float> c(on, sum.size());
  upload(on, std::span<const Bfloat16>(left), a.data());
  upload(on, std::span<const Bfloat16>(right), b.data());
  upload(on, std::span<const float>(sum), c.data());
  cuda::launch(on, multiply_once, dim3(1), dim3(32), 0, a.data(), b.data(), c.data());
  download(on, static_cast<const float*>(c.data()), std::span<float>(sum));
  EXPECT_EQ(sum, expected);
}

TEST_F(TensorCores, PairsAreRoundedTheFirstBelow) {
  EXPECT_EQ(cuda::bfloat16_pair(1.0f, -2.0f), 0xc0003f80u);
  EXPECT_EQ(cuda::bfloat16_pair(1.00390625f, 1.01171875f), 0x3f823f80u);  // ties, to even
}

// ---- Streams.

using Queues = StandIns;

__global__ void set_one(float value, float* x) {
  if (threadIdx.x == 0) *x = value;
}
void set(const Stream& stream, float value, float* x) {
  cuda::launch(stream, set_one, dim3(1), dim3(32), 0, value, x);
}

TEST_F(Queues, WorkOfAnotherStreamIsOnlySeenAfterAnEvent) {
  const Stream other(Device::kCuda);
  for (const bool waits : {true, false}) {
    int seen = 0;
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      host_cuda::set_streams(host_cuda::Streams::kRandom, seed);
      Buffer<float> x(on, 1);
      on.synchronise();
      set(on, 5, x.data());
      Event event;
      event.record(on);
      if (waits) other.wait(event);
      std::vector<float> value(1);
      download(other, static_cast<const float*>(x.data()), std::span<float>(value));
      seen += value[0] == 5 ? 1 : 0;
    }
    if (waits)
      EXPECT_EQ(seen, 20);
    else
      EXPECT_LT(seen, 20);
  }
}

TEST_F(Queues, PinnedMemoryIsWrittenOnlyWhenTheStreamGetsThere) {
  Buffer<float> x(on, 1);
  PinnedBuffer<float> host(on, 1);
  set(on, 5, x.data());
  download_later(on, 1, x.data(), host);
  EXPECT_TRUE(std::isnan(host[0]));
  Event event;
  event.record(on);
  event.synchronise();
  EXPECT_EQ(host[0], 5);
}

TEST_F(Queues, ADownloadIsThereWhenItReturnsIntoPinnedMemoryToo) {
  Buffer<float> x(on, 1);
  PinnedBuffer<float> to(on, 1);
  set(on, 5, x.data());
  download(on, static_cast<const float*>(x.data()), to.span());
  EXPECT_EQ(to[0], 5);
}

TEST_F(Queues, SynchronisingAStreamWaitsForIt) {
  Buffer<float> x(on, 1);
  PinnedBuffer<float> host(on, 1);
  set(on, 5, x.data());
  download_later(on, 1, x.data(), host);
  on.synchronise();
  EXPECT_EQ(host[0], 5);
}

TEST_F(Queues, MemoryIsGivenBackInTheStreamsOrder) {
  const std::size_t before = host_cuda::memory_in_use();
  Buffer<float> result(on, 1);
  {
    Buffer<float> x(on, 1);
    set(on, 5, x.data());
    copy(on, 1, x.data(), result.data());
  }  // x is given back while its work is still queued
  std::vector<float> value(1);
  download(on, static_cast<const float*>(result.data()), std::span<float>(value));
  EXPECT_EQ(value[0], 5);
  result = Buffer<float>();
  EXPECT_EQ(host_cuda::memory_in_use(), before);
}

TEST_F(Queues, RunningOutOfMemorySaysWhatWasAskedForAndBreaksNothing) {
  host_cuda::set_memory(std::size_t{8} << 20);
  Buffer<float> kept(on, 1 << 20);
  try {
    const Buffer<float> more(on, 2 << 20);
    FAIL() << "8 MiB in 4";
  } catch (const OutOfMemory& error) {
    EXPECT_THAT(error.what(), HasSubstr("8 MiB asked for, 4 MiB of 8 MiB free"));
  }
  set(on, 5, kept.data());
  on.synchronise();
}

TEST_F(Queues, EveryFailedAllocationOfAnOperationIsAnErrorAndLeaksNothing) {
  const OperationCase& test = operation_named("attention_backward").cases[5];
  const auto expected = run_on(on, test);
  const std::size_t before = host_cuda::memory_in_use();
  int failures = 0;
  for (bool fails = true; fails;) {
    host_cuda::fail_allocation(failures);
    try {
      run_on(on, test);
      fails = false;
    } catch (const OutOfMemory&) {
      ++failures;
    }
    host_cuda::fail_allocation(-1);
    ASSERT_EQ(host_cuda::memory_in_use(), before);
  }
  EXPECT_GE(failures, 9);  // arguments and scratch
  EXPECT_EQ(run_on(on, test)[0].values, expected[0].values);
}

TEST_F(Queues, ALaunchThatFailsIsAnErrorOfThatLaunch) {
  Buffer<float> x(on, 1);
  host_cuda::fail_launch(0);
  EXPECT_THROW(set(on, 1, x.data()), std::runtime_error);
  set(on, 2, x.data());
  std::vector<float> value(1);
  download(on, static_cast<const float*>(x.data()), std::span<float>(value));
  EXPECT_EQ(value[0], 2);
}

// ---- Recordings.

float value_of(const Stream& stream, const Buffer<float>& x) {
  std::vector<float> value(1);
  download(stream, x.data(), std::span<float>(value));
  return value[0];
}

TEST_F(Queues, ARecordingIsReplayedOnWhatStandsInMemoryThen) {
  const std::size_t before = host_cuda::memory_in_use();
  {
    Buffer<float> x(on, 1), y(on, 1);
    const Recording recording(on, [&] {
      const cuda::Scratch<float> between(on, 1);
      copy(on, 1, x.data(), between.data());
      copy(on, 1, between.data(), y.data());
    });
    EXPECT_EQ(value_of(on, y), 0) << "recorded, not done";
    for (const float value : {5.0f, 7.0f}) {
      set(on, value, x.data());
      recording.replay(on);
      EXPECT_EQ(value_of(on, y), value);
    }
  }
  EXPECT_EQ(host_cuda::memory_in_use(), before);
}

TEST_F(Queues, WhatCannotBeRecordedIsAnErrorAndLeavesTheStreamAsItWas) {
  Buffer<float> x(on, 1);
  const std::size_t before = host_cuda::memory_in_use();
  const std::vector<float> host(1, 9.0f);
  const auto refuses = [&](auto work) {
    EXPECT_THROW(Recording(on,
                           [&] {
                             const cuda::Scratch<float> scratch(on, 1);
                             work();
                           }),
                 std::runtime_error);
    EXPECT_EQ(host_cuda::memory_in_use(), before);
  };
  refuses([&] { on.synchronise(); });
  refuses([&] { upload(on, std::span<const float>(host), x.data()); });
  refuses([&] {
    host_cuda::fail_launch(0);
    set(on, 5, x.data());
  });
  set(on, 7, x.data());
  EXPECT_EQ(value_of(on, x), 7);
}

using StandInsDeathTest = StandIns;

TEST_F(StandInsDeathTest, TheCpuCannotReadDeviceMemory) {
#ifdef INFALIGN_SANITIZED
  GTEST_SKIP() << "under a sanitizer device memory comes from the heap";
#endif
  Buffer<float> x(on, 1);
  on.synchronise();
  EXPECT_DEATH({ EXPECT_NE(x[0], 1.0f); }, "");
}

TEST_F(StandInsDeathTest, AKernelIsNotGivenTheCpusMemory) {
  const std::vector<float> host(1);
  EXPECT_DEATH(set(on, 1, const_cast<float*>(host.data())), "address of the CPU's memory");
}

TEST_F(StandIns, ThereIsOneGpu) {
  EXPECT_EQ(cuda_device_count(), 1);
  EXPECT_THROW(Stream(Device::kCuda, 1), std::runtime_error);
}

}  // namespace
}  // namespace infalign::kernels
