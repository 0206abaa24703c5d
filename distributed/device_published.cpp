#include "distributed/device_published.h"

#include <utility>

namespace infalign::distributed {

DevicePublished::~DevicePublished() {
  try {
    copied_.synchronise();
  } catch (const std::exception&) {
    // The device has failed, and what it does no longer matters.
  }
  of_others_.clear();
  given_back_->push_back(std::move(own_));
}

void DevicePublished::fetch(const kernels::Stream& on, std::span<const Interval> wanted, std::byte* out) {
  for (std::size_t rank = 0; rank < intervals_.size(); ++rank) {
    const std::byte* held = rank == rank_ ? own_.bytes().data() : of_others_[rank].data();
    for_pieces_within(wanted, intervals_[rank], [&](Interval piece, std::int64_t place) {
      kernels::copy(on, piece.size(), held + (piece.begin - intervals_[rank].begin), out + place);
    });
  }
  copied_.record(on);
}

DevicePublisher::~DevicePublisher() {
  for (kernels::SharedMemory& memory : *given_back_) memory.leave();
}

std::unique_ptr<DevicePublished> DevicePublisher::publish(std::span<const Interval> intervals) {
  group_.barrier();  // all ranks have closed what was given back before
  given_back_->clear();
  std::unique_ptr<DevicePublished> published(new DevicePublished);
  published->given_back_ = given_back_;
  published->intervals_.assign(intervals.begin(), intervals.end());
  published->rank_ = static_cast<std::size_t>(group_.rank());
  published->own_ = kernels::SharedMemory(on_, static_cast<std::size_t>(intervals[published->rank_].size()));
  const auto handle = published->own_.handle();
  const auto handles = all_gather_concatenated<kernels::PeerHandle>(group_, std::span(&handle, 1));
  for (std::size_t rank = 0; rank < handles.size(); ++rank) {
    const bool is_there = rank != published->rank_ && intervals[rank].size() > 0;
    published->of_others_.push_back(is_there ? kernels::OpenedMemory(handles[rank])
                                             : kernels::OpenedMemory());
  }
  return published;
}

}  // namespace infalign::distributed
