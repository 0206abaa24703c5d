#include "core/stages/parameter_shards.h"

#include <utility>
#include <vector>

#include "distributed/timed.h"
#include "kernels/trace.h"

namespace infalign::stages {
namespace {

/// What the ranks hold of one buffer.
class PublishedSource final : public model::ParameterSource {
 public:
  PublishedSource(std::unique_ptr<distributed::Published> published, std::int64_t width,
                  std::shared_ptr<distributed::Courier> courier, std::shared_ptr<FetchTime> time)
      : published_(std::move(published)),
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
    std::vector<distributed::Interval> bytes;
    bytes.reserve(ranges.size());
    for (const auto& [offset, size] : ranges) bytes.push_back({offset * width_, (offset + size) * width_});
    courier_->send([this, bytes = std::move(bytes), to] {
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
  std::unique_ptr<distributed::Published> published_;
  std::int64_t width_;  // bytes of a value
  std::shared_ptr<distributed::Courier> courier_;
  std::shared_ptr<FetchTime> time_;
};

}  // namespace

ParameterShards::ParameterShards(const distributed::ShardGroups& groups, std::shared_ptr<FetchTime> time)
    : groups_(groups),
      time_(std::move(time)),
      space_(std::make_shared<model::GatherSpace>()),
      courier_(std::make_shared<distributed::Courier>(groups.group().concurrent())) {}

model::Gathering ParameterShards::publish(std::span<const std::byte> parameters, std::int64_t width) {
  distributed::Communicator& group = groups_.group();
  auto intervals = groups_.shares(std::ssize(parameters) / width);
  for (auto& interval : intervals) interval = {interval.begin * width, interval.end * width};
  const auto mine = intervals[static_cast<std::size_t>(group.rank())];
  auto published = group.publish(
      parameters.subspan(static_cast<std::size_t>(mine.begin), static_cast<std::size_t>(mine.size())),
      intervals);
  return {std::make_shared<PublishedSource>(std::move(published), width, courier_, time_), space_};
}

std::shared_ptr<ParameterShards> make_shards(Run& run) {
  if (run.experiment.distributed.sharding < 3 || run.ranks.size() == 1) return nullptr;
  return std::make_shared<ParameterShards>(run.groups, run.fetching);
}

}  // namespace infalign::stages
