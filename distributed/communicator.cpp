// What all communicators share: a collective's arguments are checked, its call is numbered and recorded, and
// only then does the implementation move data. Whatever the implementations leave untyped is typed here.
#include "distributed/communicator.h"

#include <algorithm>

#include "kernels/trace.h"

namespace infalign::distributed {
namespace {

template <class T>
constexpr Element element_of();
template <>
constexpr Element element_of<std::uint16_t>() {
  return Element::kBfloat16;
}
template <>
constexpr Element element_of<float>() {
  return Element::kFloat32;
}
template <>
constexpr Element element_of<double>() {
  return Element::kFloat64;
}
template <>
constexpr Element element_of<std::int64_t>() {
  return Element::kInt64;
}
template <>
constexpr Element element_of<std::uint64_t>() {
  return Element::kUint64;
}

const char* name_of(Collective kind) {
  switch (kind) {
    case Collective::kNone:
      return "no collective";
    case Collective::kBarrier:
      return "barrier";
    case Collective::kBroadcast:
      return "broadcast";
    case Collective::kAllReduceSum:
      return "all_reduce_sum";
    case Collective::kAllReduceMax:
      return "all_reduce_max";
    case Collective::kReduceScatterSum:
      return "reduce_scatter_sum";
    case Collective::kAllGather:
      return "all_gather";
    case Collective::kAllGatherBytes:
      return "all_gather_bytes";
    case Collective::kSplit:
      return "split";
    case Collective::kPublish:
      return "publish";
  }
  return "?";
}

const char* name_of(Element element) {
  switch (element) {
    case Element::kByte:
      return "bytes";
    case Element::kBfloat16:
      return "bfloat16";
    case Element::kFloat32:
      return "float32";
    case Element::kFloat64:
      return "float64";
    case Element::kInt64:
      return "int64";
    case Element::kUint64:
      return "uint64";
  }
  return "?";
}

void check_cover(std::span<const Interval> intervals, int ranks, std::int64_t count, const char* where) {
  std::int64_t end = 0;
  bool covers = std::ssize(intervals) == ranks;
  for (const Interval& interval : intervals) {
    covers = covers && interval.begin == end && interval.end >= end;
    end = interval.end;
  }
  if (!covers || end != count)
    throw std::invalid_argument(std::string(where) + ": " + std::to_string(intervals.size()) +
                                " intervals do not cover " + std::to_string(count) + " values over " +
                                std::to_string(ranks) + " ranks, one after the other");
}

}  // namespace

std::vector<Interval> shares(std::int64_t n, int ranks, std::int64_t granularity) {
  if (n < 0 || ranks < 1 || granularity < 1)
    throw std::invalid_argument("shares: needs n >= 0, ranks >= 1 and granularity >= 1");
  const std::int64_t grains = (n + granularity - 1) / granularity;
  const auto border = [&](int rank) {
    const std::int64_t whole = grains / ranks * rank + grains % ranks * rank / ranks;
    return std::min(n, whole * granularity);
  };
  std::vector<Interval> result;
  result.reserve(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) result.push_back({border(rank), border(rank + 1)});
  return result;
}

std::size_t size_of(Element element) {
  switch (element) {
    case Element::kByte:
      return 1;
    case Element::kBfloat16:
      return 2;
    case Element::kFloat32:
      return 4;
    case Element::kFloat64:
    case Element::kInt64:
    case Element::kUint64:
      return 8;
  }
  return 0;
}

std::string to_string(const CollectiveCall& call) {
  std::string text = name_of(call.kind);
  if (call.kind == Collective::kNone) return text;
  text += " #" + std::to_string(call.sequence);
  if (call.kind == Collective::kBarrier || call.kind == Collective::kAllGatherBytes ||
      call.kind == Collective::kSplit)
    return text;
  text += " (" + std::to_string(call.count) + " " + name_of(call.element);
  if (call.kind == Collective::kBroadcast) text += " from rank " + std::to_string(call.from);
  return text + ")";
}

Communicator::Call::Call(Record& record, CollectiveCall call)
    : record_(record), start_(std::chrono::steady_clock::now()) {
  const std::lock_guard lock(record_.mutex);
  call.sequence = record_.last.sequence + 1;
  record_.last = call;
  record_.inside = true;
}

Communicator::Call::~Call() {
  record_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  record_.inside = false;
}

CollectiveCall Communicator::last_collective() const {
  const std::lock_guard lock(record_->mutex);
  return record_->last;
}

template <class T>
void Communicator::all_reduce(Collective kind, Reduction reduction, std::span<T> values) {
  const Call call = begin(kind, element_of<T>(), std::ssize(values));
  const kernels::Span span("ranks: all_reduce");
  do_all_reduce(reduction, element_of<T>(), std::ssize(values), std::as_writable_bytes(values).data());
}

template <class T>
void Communicator::reduce_scatter(std::span<const T> values, std::span<const Interval> intervals,
                                  std::span<T> mine) {
  check_cover(intervals, size(), std::ssize(values), "reduce_scatter_sum");
  if (std::ssize(mine) != intervals[static_cast<std::size_t>(rank())].size())
    throw std::invalid_argument("reduce_scatter_sum: room for " + std::to_string(mine.size()) +
                                " values in rank " + std::to_string(rank()) + "'s share");
  const Call call = begin(Collective::kReduceScatterSum, element_of<T>(), std::ssize(values));
  const kernels::Span span("ranks: reduce_scatter");
  do_reduce_scatter_sum(element_of<T>(), std::as_bytes(values).data(), intervals,
                        std::as_writable_bytes(mine).data());
}

template <class T>
void Communicator::gather(std::span<T> values, std::span<const Interval> intervals) {
  check_cover(intervals, size(), std::ssize(values), "all_gather");
  const Call call = begin(Collective::kAllGather, element_of<T>(), std::ssize(values));
  const kernels::Span span("ranks: all_gather");
  do_all_gather(element_of<T>(), std::as_writable_bytes(values).data(), intervals);
}

void Communicator::barrier() {
  const Call call = begin(Collective::kBarrier, Element::kByte, 0);
  const kernels::Span span("ranks: barrier");
  do_barrier();
}

void Communicator::broadcast(std::span<std::byte> data, int from) {
  if (from < 0 || from >= size())
    throw std::invalid_argument("broadcast: rank " + std::to_string(from) + " is not one of " +
                                std::to_string(size()));
  const Call call = begin(Collective::kBroadcast, Element::kByte, std::ssize(data), from);
  const kernels::Span span("ranks: broadcast");
  do_broadcast(data, from);
}

void Communicator::all_reduce_sum(std::span<std::uint64_t> values) {
  all_reduce(Collective::kAllReduceSum, Reduction::kSum, values);
}
void Communicator::all_reduce_sum(std::span<std::int64_t> values) {
  all_reduce(Collective::kAllReduceSum, Reduction::kSum, values);
}
void Communicator::all_reduce_sum(std::span<double> values) {
  all_reduce(Collective::kAllReduceSum, Reduction::kSum, values);
}
void Communicator::all_reduce_max(std::span<double> values) {
  all_reduce(Collective::kAllReduceMax, Reduction::kMax, values);
}

void Communicator::reduce_scatter_sum(std::span<const float> values, std::span<const Interval> intervals,
                                      std::span<float> mine) {
  reduce_scatter(values, intervals, mine);
}
void Communicator::reduce_scatter_sum(std::span<const std::int64_t> values,
                                      std::span<const Interval> intervals, std::span<std::int64_t> mine) {
  reduce_scatter(values, intervals, mine);
}

void Communicator::all_gather(std::span<float> values, std::span<const Interval> intervals) {
  gather(values, intervals);
}
void Communicator::all_gather(std::span<std::uint16_t> values, std::span<const Interval> intervals) {
  gather(values, intervals);
}
void Communicator::all_gather(std::span<double> values, std::span<const Interval> intervals) {
  gather(values, intervals);
}

std::vector<std::vector<std::byte>> Communicator::all_gather_bytes(std::span<const std::byte> mine) {
  const Call call = begin(Collective::kAllGatherBytes, Element::kByte, 0);
  const kernels::Span span("ranks: all_gather_bytes");
  return do_all_gather_bytes(mine);
}

std::unique_ptr<Communicator> Communicator::split(int group) {
  const Call call = begin(Collective::kSplit, Element::kByte, 0);
  return do_split(group, rank(), Caller::kAnother);
}

std::unique_ptr<Communicator> Communicator::regroup(int group, int order) {
  const Call call = begin(Collective::kSplit, Element::kByte, 0);
  auto part = do_split(group, order, Caller::kThisThread);
  part->record_ = record_;
  return part;
}

std::unique_ptr<Published> Communicator::publish(std::span<const std::byte> mine,
                                                 std::span<const Interval> intervals) {
  const std::int64_t whole = intervals.empty() ? 0 : intervals.back().end;
  check_cover(intervals, size(), whole, "publish");
  if (std::ssize(mine) != intervals[static_cast<std::size_t>(rank())].size())
    throw std::invalid_argument("publish: " + std::to_string(mine.size()) + " bytes in rank " +
                                std::to_string(rank()) + "'s share");
  const Call call = begin(Collective::kPublish, Element::kByte, whole);
  return do_publish(mine, intervals);
}

}  // namespace infalign::distributed
