#include "core/stages/parameter_shards.h"

#include <utility>
#include <vector>

#include "distributed/timed.h"
#include "kernels/trace.h"

namespace infalign::stages {
namespace {

std::vector<distributed::Interval> in_bytes(const std::vector<model::ParameterRange>& ranges,
                                            std::int64_t width) {
  std::vector<distributed::Interval> bytes;
  bytes.reserve(ranges.size());
  for (const auto& [offset, size] : ranges) bytes.push_back({offset * width, (offset + size) * width});
  return bytes;
}

/// What the ranks hold of one buffer.
class PublishedSource final : public model::ParameterSource {
 public:
  PublishedSource(kernels::Buffer<std::byte> own, std::unique_ptr<distributed::Published> published,
                  std::int64_t width, std::shared_ptr<distributed::Courier> courier,
                  std::shared_ptr<FetchTime> time)
      : own_(std::move(own)),
        published_(std::move(published)),
        width_(width),
        courier_(std::move(courier)),
        time_(std::move(time)) {}
  ~PublishedSource() override {
    try {
      courier_->wait();
    } catch (...) {  // whoever waited for it was told
    }
  }
  PublishedSource(const PublishedSource&) = delete;
  PublishedSource& operator=(const PublishedSource&) = delete;

  void begin(std::vector<model::ParameterRange> ranges, std::span<std::byte> to) override {
    courier_->send([this, bytes = in_bytes(ranges, width_), to] {
      const kernels::Span span("fetch parameters");
      const distributed::Timed timed(time_->taken);
      published_->fetch(bytes, to);
    });
  }
  void wait() override {
    const distributed::Timed timed(time_->waited);
    courier_->wait();
  }

 private:
  kernels::Buffer<std::byte> own_;
  std::unique_ptr<distributed::Published> published_;
  std::int64_t width_;  // bytes of a value
  std::shared_ptr<distributed::Courier> courier_;
  std::shared_ptr<FetchTime> time_;
};

/// The same in the memory of GPUs.
class DeviceSource final : public model::ParameterSource {
 public:
  DeviceSource(std::unique_ptr<distributed::DevicePublished> published, std::int64_t width,
               const kernels::Stream& computing, const kernels::Stream& beside)
      : published_(std::move(published)), width_(width), computing_(computing), beside_(beside) {}

  void begin(std::vector<model::ParameterRange> ranges, std::span<std::byte> to) override {
    computed_.record(computing_);
    beside_.wait(computed_);
    published_->fetch(beside_, in_bytes(ranges, width_), to.data());
  }
  void wait() override {
    fetched_.record(beside_);  // whichever model's
    computing_.wait(fetched_);
  }

 private:
  std::unique_ptr<distributed::DevicePublished> published_;
  std::int64_t width_;
  kernels::Stream computing_, beside_;
  kernels::Event computed_, fetched_;
};

}  // namespace

ParameterShards::ParameterShards(const distributed::ShardGroups& groups, std::shared_ptr<FetchTime> time)
    : groups_(groups),
      time_(std::move(time)),
      courier_(std::make_shared<distributed::Courier>(groups.group().concurrent())) {}

ParameterShards::ParameterShards(const distributed::ShardGroups& groups,
                                 distributed::DevicePublisher& publisher, const kernels::Stream& on)
    : groups_(groups), on_(on), beside_(on.beside()), publisher_(&publisher) {}

model::Gathering ParameterShards::hold(std::int64_t parameters, std::int64_t width) {
  distributed::Communicator& group = groups_.group();
  auto intervals = groups_.shares(parameters);
  for (auto& interval : intervals) interval = {interval.begin * width, interval.end * width};
  if (publisher_ != nullptr) {
    auto published = publisher_->publish(intervals);
    const auto held = published->own();
    return {std::make_shared<DeviceSource>(std::move(published), width, on_, beside_), space_, held};
  }
  const auto mine = intervals[static_cast<std::size_t>(group.rank())];
  kernels::Buffer<std::byte> own(static_cast<std::size_t>(mine.size()));
  const auto held = own.span();
  auto published = group.publish(held, intervals);
  return {std::make_shared<PublishedSource>(std::move(own), std::move(published), width, courier_, time_),
          space_, held};
}

void ParameterShards::meet() const {
  on_.synchronise();
  groups_.group().barrier();
}

std::shared_ptr<ParameterShards> make_shards(Run& run) {
  if (run.experiment.distributed.sharding < 3 || run.ranks.size() == 1) return nullptr;
  if (run.on.device() == kernels::Device::kCpu)
    return std::make_shared<ParameterShards>(run.groups, run.fetching);
  if (!run.publisher)
    run.publisher = std::make_shared<distributed::DevicePublisher>(run.groups.group(), run.on);
  return std::make_shared<ParameterShards>(run.groups, *run.publisher, run.on);
}

distributed::MachineMemory* machine_memory(Run& run) {
  const bool divides = run.experiment.distributed.sharding == 3;
  if (divides || run.ranks.size() == 1 || run.on.device() != kernels::Device::kCpu) return nullptr;
  if (!run.machine) run.machine = std::make_shared<distributed::MachineMemory>(run.ranks);
  return run.machine.get();
}

}  // namespace infalign::stages
