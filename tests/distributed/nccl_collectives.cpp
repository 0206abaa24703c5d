// Run under mpirun with any number of ranks, on stand-ins for CUDA and NCCL: collectives on device memory
// with results known by arithmetic, on streams that are shuffled, and what happens when a rank does not come.
// Ends with 0 if all is well; else with 1, having named on standard error what is not.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "distributed/collective_cases.h"
#include "distributed/communicator.h"
#include "distributed/device_collectives.h"
#include "distributed/device_published.h"
#include "distributed/optimizer_run.h"
#include "support/cuda/nccl.h"
#include "support/cuda/queue.h"

namespace {

using namespace infalign;
using namespace infalign::distributed;
using namespace std::chrono_literals;
using testing::cuts;
using testing::expect;
using testing::expect_values;
using testing::triangle;

template <class T>
struct OnDevice {
  OnDevice(const kernels::Stream& stream, const std::vector<T>& values)
      : on(stream), buffer(on, values.size()) {
    kernels::upload(on, std::span<const T>(values), buffer.data());
  }
  std::vector<T> values() const {
    std::vector<T> result(buffer.size());
    kernels::download(on, buffer.data(), std::span<T>(result));
    return result;
  }
  kernels::Stream on;
  kernels::Buffer<T> buffer;
};

template <class T>
void sums(Communicator& ranks, DeviceCollectives& collectives, const kernels::Stream& on) {
  for (const std::int64_t n : {1, 3, 1000}) {
    std::vector<T> values, expected;
    for (std::int64_t i = 0; i < n; ++i) {
      values.push_back(static_cast<T>((ranks.rank() + 1) * i));
      expected.push_back(static_cast<T>(triangle(ranks.size()) * i));
    }
    OnDevice<T> here(on, values);
    collectives.all_reduce_sum(on, n, here.buffer.data());
    collectives.wait(on, 60s);
    expect_values(ranks, here.values(), expected);
  }
}

template <class T>
void scattered_sums(Communicator& ranks, DeviceCollectives& collectives, const kernels::Stream& on) {
  for (const auto& intervals : cuts(ranks.size())) {
    const Interval own = intervals[static_cast<std::size_t>(ranks.rank())];
    std::vector<T> values, expected;
    for (std::int64_t i = 0; i < intervals.back().end; ++i)
      values.push_back(static_cast<T>((ranks.rank() + 1) * i));
    for (std::int64_t i = own.begin; i < own.end; ++i)
      expected.push_back(static_cast<T>(triangle(ranks.size()) * i));
    if (values.empty()) continue;
    const OnDevice<T> here(on, values);
    OnDevice<T> mine(on, std::vector<T>(expected.size()));
    collectives.reduce_scatter_sum(on, here.buffer.data(), intervals, mine.buffer.data());
    collectives.wait(on, 60s);
    expect_values(ranks, mine.values(), expected);
    expect_values(ranks, here.values(), values);
  }
}

template <class T>
void gathers(Communicator& ranks, DeviceCollectives& collectives, const kernels::Stream& on) {
  for (const auto& intervals : cuts(ranks.size())) {
    const Interval own = intervals[static_cast<std::size_t>(ranks.rank())];
    std::vector<T> values(static_cast<std::size_t>(intervals.back().end), T{1}), expected(values.size());
    std::iota(expected.begin(), expected.end(), T{3});
    std::copy(expected.begin() + own.begin, expected.begin() + own.end, values.begin() + own.begin);
    if (values.empty()) continue;
    OnDevice<T> here(on, values);
    collectives.all_gather(on, here.buffer.data(), intervals);
    collectives.wait(on, 60s);
    expect_values(ranks, here.values(), expected);
  }
}

/// Gradients are made on one stream and summed on a second, from which a third reads; collectives of the two
/// later streams stand in one order on all ranks however the streams are shuffled.
void across_streams(Communicator& ranks, DeviceCollectives& collectives) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    host_cuda::set_streams(host_cuda::Streams::kRandom,
                           seed + static_cast<std::uint64_t>(100 * ranks.rank()));
    const kernels::Stream compute(kernels::Device::kCuda), exchange(kernels::Device::kCuda),
        update(kernels::Device::kCuda);
    OnDevice<float> first(compute, {1, 2, 3}), second(compute, {4, 5, 6});
    kernels::Event made, summed;
    made.record(compute);
    exchange.wait(made);
    collectives.all_reduce_sum(exchange, 3, first.buffer.data());
    summed.record(exchange);
    update.wait(made);
    collectives.all_reduce_sum(update, 3, second.buffer.data());
    update.wait(summed);
    kernels::Buffer<float> copy(update, 3);
    kernels::copy(update, 3, std::as_const(first.buffer).data(), copy.data());
    collectives.wait(exchange, 60s);
    collectives.wait(update, 60s);
    std::vector<float> result(3);
    kernels::download(update, std::as_const(copy).data(), std::span<float>(result));
    const auto n = static_cast<float>(ranks.size());
    expect_values(ranks, result, {n, 2 * n, 3 * n});
  }
  host_cuda::set_streams(host_cuda::Streams::kLazy);
}

template <class Call>
std::string message_of_peer_failure(Call call) {
  try {
    call();
  } catch (const PeerFailed& failure) {
    return failure.what();
  }
  return "";
}

/// A rank that never comes, and one that is lost, end the wait; nothing hangs, and what follows is refused.
void failures(Communicator& ranks, const kernels::Stream& on) {
  for (const bool lost : {false, true}) {
    const auto collectives = make_nccl(ranks, 60s);
    OnDevice<float> here(on, {1, 2});
    on.synchronise();
    if (lost)
      host_cuda::fail_collectives(6);
    else
      host_cuda::stall_collectives();
    const std::string told = message_of_peer_failure([&] {
      collectives->all_reduce_sum(on, 2, here.buffer.data());
      collectives->wait(on, 50ms);
    });
    expect(ranks, told.find(lost ? "remote process" : "not done in time") != std::string::npos,
           "a failure is told: " + told);
    expect(ranks, !message_of_peer_failure([&] {
                     collectives->all_gather(on, here.buffer.data(), cuts(ranks.size())[0]);
                   }).empty(),
           "after a failure nothing more is begun");
    host_cuda::mend_collectives();
    expect_values(ranks, here.values(), {1, 2});
    ranks.barrier();
  }
}

/// A training run whose memory is the GPU's: near that of the CPU, the same bits on one GPU and on many,
/// whatever the stage, however streams are shuffled. Gradients that cannot be summed stop a step on all
/// ranks.
void optimizer(Communicator& ranks, DeviceCollectives& collectives, const kernels::Stream& on) {
  const Place place{on, &collectives};
  const auto near = [](const std::vector<float>& a, const std::vector<float>& b) {
    return std::ranges::equal(a, b, [](float x, float y) { return std::abs(x - y) < 1e-5f; });
  };
  for (const SumMode mode : {SumMode::kReproducible, SumMode::kFast})
    for (const std::int64_t parameters : {1, 5000, 9 * 1024 + 17}) {
      const testing::OptimizerRun plain{.parameters = parameters, .mode = mode};
      const auto alone = testing::whole_run(*make_local(), plain, {on});
      const auto on_cpu = testing::whole_run(*make_local(), plain);
      testing::OptimizerRun narrow = plain;
      narrow.narrow = true;
      narrow.rounding_seed = 5;
      const auto alone_narrow = testing::whole_run(*make_local(), narrow, {on});
      expect(ranks, near(alone.parameters, on_cpu.parameters), "a GPU's optimizer is the CPU's");
      for (const auto& [stage, in_layers, group] : {std::tuple{Sharding::kNothing, false, 0},
                                                    {Sharding::kNothing, true, 0},
                                                    {Sharding::kOptimizer, false, 0},
                                                    {Sharding::kOptimizer, true, 0},
                                                    {Sharding::kGradients, false, 0},
                                                    {Sharding::kGradients, true, 0},
                                                    {Sharding::kParameters, true, 0},
                                                    {Sharding::kParameters, true, 2}}) {
        for (std::uint64_t seed = 0; seed < 4; ++seed) {
          const bool copies = seed % 2 == 1;  // passes read a copy in bfloat16
          const auto& expected = copies ? alone_narrow : alone;
          testing::OptimizerRun sharded = copies ? narrow : plain;
          sharded.sharding = stage;
          sharded.in_layers = in_layers;
          sharded.group = group;
          host_cuda::set_streams(seed == 0 ? host_cuda::Streams::kLazy : host_cuda::Streams::kRandom,
                                 seed + static_cast<std::uint64_t>(100 * ranks.rank()));
          const auto many = testing::whole_run(ranks, sharded, place);
          expect(
              ranks,
              mode == SumMode::kReproducible ? many == expected : near(many.parameters, expected.parameters),
              "GPUs of " + std::to_string(ranks.size()) + " ranks give what one gives");
        }
      }
    }
  host_cuda::set_streams(host_cuda::Streams::kLazy);

  ShardedOptimizer refuses(ranks, 5000, SumMode::kReproducible, {}, Sharding::kOptimizer, 2048, place);
  kernels::Buffer<float> parameters(on, 5000);
  if (ranks.rank() + 1 == ranks.size()) {
    const std::vector<float> bad{NAN};
    kernels::upload<float>(on, bad, refuses.gradient().data() + 17);
    refuses.end_micro_batch(1);
  }
  expect(ranks, !refuses.step({}, 0, parameters.span()).applied, "what is not a number is not applied");
  if (ranks.root()) refuses.end_micro_batch(1);
  expect(ranks, refuses.step({}, 0, parameters.span()).applied, "the next step is sound again");
}

/// A buffer that is divided among GPUs: each copies what it wants from where it is held, as often as it
/// likes; what is given back is free once ranks publish again.
void published(Communicator& ranks, const kernels::Stream& on) {
  constexpr std::int64_t kBytes = 100'001;
  const auto intervals = shares(kBytes, ranks.size(), 8);
  const Interval mine = intervals[static_cast<std::size_t>(ranks.rank())];
  const auto value = [](std::int64_t i, int round) { return static_cast<std::byte>((i * 31 + round) % 251); };
  DevicePublisher publisher(ranks, on);
  const kernels::Stream beside = on.beside();
  for (int round = 0; round < 3; ++round) {
    const auto there = publisher.publish(intervals);
    expect(ranks, std::ssize(there->own()) == mine.size(), "a rank's own interval is there");
    std::vector<std::byte> written;
    for (std::int64_t i = mine.begin; i < mine.end; ++i) written.push_back(value(i, round));
    kernels::upload<std::byte>(on, written, there->own().data());
    on.synchronise();
    ranks.barrier();
    for (int time = 0; time < ranks.rank() + 1; ++time) {
      const std::vector<Interval> wanted = {{99'000, kBytes}, {3, 60'000}};
      std::vector<std::byte> expected;
      for (const Interval& interval : wanted)
        for (std::int64_t i = interval.begin; i < interval.end; ++i) expected.push_back(value(i, round));
      kernels::Buffer<std::byte> copy(beside, expected.size());
      there->fetch(beside, wanted, copy.data());
      std::vector<std::byte> found(expected.size());
      kernels::download<std::byte>(beside, copy.data(), found);
      expect(ranks, found == expected, "what others hold is copied");
    }
    const auto in_use = static_cast<std::int64_t>(host_cuda::memory_in_use());
    expect(ranks, in_use < 2 * kBytes / ranks.size() + 2'000'000, "a rank holds its part alone");
    ranks.barrier();
  }
}

/// In stage 2 a GPU holds its share of what is added up, and of the gradient two layers.
void optimizer_memory(Communicator& ranks, DeviceCollectives& collectives, const kernels::Stream& on) {
  constexpr std::int64_t kParameters = 200'000;
  const auto parts = testing::gradient_parts(kParameters);
  const auto bytes =
      ShardedOptimizer::bytes(kParameters, ranks.size(), SumMode::kReproducible, Sharding::kGradients, parts);
  const std::size_t before = host_cuda::memory_in_use();
  const ShardedOptimizer optimizer(ranks, kParameters, SumMode::kReproducible, {}, Sharding::kGradients,
                                   kBucket, {on, &collectives}, nullptr, parts);
  const auto held = static_cast<std::int64_t>(host_cuda::memory_in_use() - before);
  expect(ranks, held <= bytes.gradient + bytes.sums + bytes.moments, "a GPU holds no more than is planned");
  expect(ranks, bytes.gradient == 2 * testing::kLayer * 4, "the gradient of two layers");
  expect(ranks, held < kParameters * 20 / ranks.size() + 1'100'000, "what is added up is divided");
}

/// A step whose sum never comes ends, too.
void step_without_the_others(Communicator& ranks, const kernels::Stream& on) {
  if (ranks.size() == 1) return;
  const auto collectives = make_nccl(ranks, 3s);
  ShardedOptimizer optimizer(ranks, 5000, SumMode::kReproducible, {}, Sharding::kOptimizer, 2048,
                             {on, collectives.get()});
  kernels::Buffer<float> parameters(on, 5000);
  on.synchronise();
  host_cuda::stall_collectives();
  const std::string told = message_of_peer_failure([&] { optimizer.step({}, 0, parameters.span()); });
  expect(ranks, told.find("not done in time") != std::string::npos, "a failed step is told: " + told);
  host_cuda::mend_collectives();
  ranks.barrier();
}

void run(Communicator& ranks) {
  expect(ranks, rank_on_machine(ranks) == ranks.rank(), "all ranks are on one machine");
  const kernels::Stream on(kernels::Device::kCuda);
  const auto collectives = make_nccl(ranks, 60s);
  sums<float>(ranks, *collectives, on);
  sums<std::int64_t>(ranks, *collectives, on);
  sums<std::uint64_t>(ranks, *collectives, on);
  scattered_sums<float>(ranks, *collectives, on);
  scattered_sums<std::int64_t>(ranks, *collectives, on);
  gathers<float>(ranks, *collectives, on);
  gathers<std::uint16_t>(ranks, *collectives, on);
  across_streams(ranks, *collectives);
  optimizer(ranks, *collectives, on);
  optimizer_memory(ranks, *collectives, on);
  published(ranks, on);
  bool refused = false;
  try {
    collectives->all_gather(on, static_cast<float*>(nullptr),
                            std::vector<Interval>(static_cast<std::size_t>(ranks.size()) + 1));
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  expect(ranks, refused, "intervals for another number of ranks are refused");
  failures(ranks, on);
  step_without_the_others(ranks, on);
}

}  // namespace

int main(int argc, char** argv) {
  const auto ranks = make_mpi(&argc, &argv);
  try {
    run(*ranks);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", ranks->rank(), error.what());
    ranks->abort(1);
    return 1;
  }
  return 0;
}
