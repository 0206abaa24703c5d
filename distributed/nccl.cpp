// The only file that knows NCCL. The communicator is non-blocking: no call waits for other ranks inside the
// library, where nothing could end the wait; all waiting is done here, in loops that also look at the clock
// and at the library's asynchronous errors, and abort the communicator when there is no hope.
#include <nccl.h>  // and with it the CUDA runtime's stream and its query

#include <stdexcept>
#include <string>
#include <thread>

#include "distributed/device_collectives.h"
#include "kernels/trace.h"

namespace infalign::distributed {
namespace {

using Clock = std::chrono::steady_clock;

cudaStream_t stream_of(const kernels::Stream& on) { return static_cast<cudaStream_t>(on.queue()); }

template <class T>
constexpr ncclDataType_t type_of();
template <>
constexpr ncclDataType_t type_of<std::uint16_t>() {
  return ncclBfloat16;
}
template <>
constexpr ncclDataType_t type_of<float>() {
  return ncclFloat32;
}
template <>
constexpr ncclDataType_t type_of<std::int64_t>() {
  return ncclInt64;
}
template <>
constexpr ncclDataType_t type_of<std::uint64_t>() {
  return ncclUint64;
}

class Nccl final : public DeviceCollectives {
 public:
  Nccl(const ncclUniqueId& id, int rank, int size, std::chrono::milliseconds limit)
      : rank_(rank), size_(size), limit_(limit) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    finish(ncclCommInitRankConfig(&communicator_, size, id, rank, &config), "ncclCommInitRankConfig");
  }
  ~Nccl() override { abort(); }  // nothing is pending after a last wait(), and nothing else may be waited for

  void all_reduce_sum(const kernels::Stream& on, std::int64_t n, float* values) override {
    all_reduce(on, n, values);
  }
  void all_reduce_sum(const kernels::Stream& on, std::int64_t n, std::int64_t* values) override {
    all_reduce(on, n, values);
  }
  void all_reduce_sum(const kernels::Stream& on, std::int64_t n, std::uint64_t* values) override {
    all_reduce(on, n, values);
  }
  void reduce_scatter_sum(const kernels::Stream& on, const float* values, std::span<const Interval> intervals,
                          float* mine) override {
    reduce_scatter(on, values, intervals, mine);
  }
  void reduce_scatter_sum(const kernels::Stream& on, const std::int64_t* values,
                          std::span<const Interval> intervals, std::int64_t* mine) override {
    reduce_scatter(on, values, intervals, mine);
  }

  void all_gather(const kernels::Stream& on, float* values, std::span<const Interval> intervals) override {
    gather(on, values, intervals);
  }
  void all_gather(const kernels::Stream& on, std::uint16_t* values,
                  std::span<const Interval> intervals) override {
    gather(on, values, intervals);
  }

  void wait(const kernels::Stream& on) override { wait(on, limit_); }
  void wait(const kernels::Stream& on, std::chrono::milliseconds limit) override {
    const auto until = Clock::now() + limit;
    for (;;) {
      const cudaError_t status = cudaStreamQuery(stream_of(on));
      if (status == cudaSuccess) return;
      if (status != cudaErrorNotReady) {
        abort();
        throw std::runtime_error(std::string("CUDA: while waiting for collectives: ") +
                                 cudaGetErrorString(status));
      }
      if (state() != ncclInProgress && state() != ncclSuccess) give_up(state(), "a collective");
      if (Clock::now() > until) give_up_late("a collective");
      kernels::pulse();  // it is the others that may hang
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }

 private:
  template <class T>
  void all_reduce(const kernels::Stream& on, std::int64_t n, T* values) {
    require_alive();
    finish(ncclAllReduce(values, values, static_cast<std::size_t>(n), type_of<T>(), ncclSum, communicator_,
                         stream_of(on)),
           "ncclAllReduce");
  }

  // The library knows shares of one size; others are reductions to each rank, as one group.
  template <class T>
  void reduce_scatter(const kernels::Stream& on, const T* values, std::span<const Interval> intervals,
                      T* mine) {
    require(intervals);
    if (even(intervals))
      return finish(ncclReduceScatter(values, mine, count(own(intervals)), type_of<T>(), ncclSum,
                                      communicator_, stream_of(on)),
                    "ncclReduceScatter");
    group(
        [&](int root, const Interval& interval) {
          check(ncclReduce(values + interval.begin, root == rank_ ? mine : nullptr, count(interval),
                           type_of<T>(), ncclSum, root, communicator_, stream_of(on)),
                "ncclReduce");
        },
        intervals);
  }

  // As reduce_scatter: shares of different sizes are broadcasts by each rank.
  template <class T>
  void gather(const kernels::Stream& on, T* values, std::span<const Interval> intervals) {
    require(intervals);
    if (even(intervals))
      return finish(ncclAllGather(values + own(intervals).begin, values, count(own(intervals)), type_of<T>(),
                                  communicator_, stream_of(on)),
                    "ncclAllGather");
    group(
        [&](int root, const Interval& interval) {
          check(ncclBroadcast(values + interval.begin, values + interval.begin, count(interval), type_of<T>(),
                              root, communicator_, stream_of(on)),
                "ncclBroadcast");
        },
        intervals);
  }

  template <class Call>
  void group(Call&& call, std::span<const Interval> intervals) {
    check(ncclGroupStart(), "ncclGroupStart");
    for (int root = 0; root < size_; ++root)
      if (const Interval& interval = intervals[static_cast<std::size_t>(root)]; interval.size() > 0)
        call(root, interval);
    finish(ncclGroupEnd(), "ncclGroupEnd");
  }

  void require_alive() const {
    if (communicator_ == nullptr) throw PeerFailed("NCCL: these collectives have been given up");
  }
  void require(std::span<const Interval> intervals) const {
    require_alive();
    std::int64_t end = 0;
    bool covers = std::ssize(intervals) == size_;
    for (const Interval& interval : intervals) {
      covers = covers && interval.begin == end && interval.end >= end;
      end = interval.end;
    }
    if (!covers) throw std::invalid_argument("DeviceCollectives: intervals that do not follow one another");
  }
  const Interval& own(std::span<const Interval> intervals) const {
    return intervals[static_cast<std::size_t>(rank_)];
  }
  static std::size_t count(const Interval& interval) { return static_cast<std::size_t>(interval.size()); }
  static bool even(std::span<const Interval> intervals) {
    for (const Interval& interval : intervals)
      if (interval.size() != intervals.front().size()) return false;
    return true;
  }

  ncclResult_t state() const {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(communicator_, &state);
    return asked == ncclSuccess ? state : asked;
  }

  /// A call that may be only begun: queued when this returns.
  void finish(ncclResult_t result, const char* call) {
    const auto until = Clock::now() + limit_;
    while (result == ncclInProgress) {
      if (Clock::now() > until) give_up_late(call);
      std::this_thread::yield();
      result = state();
    }
    check(result, call);
  }
  void check(ncclResult_t result, const char* call) {
    if (result != ncclSuccess && result != ncclInProgress) give_up(result, call);
  }

  [[noreturn]] void give_up(ncclResult_t result, const std::string& call) {
    const std::string why =
        "NCCL: " + call + ": " + ncclGetErrorString(result) + " (" + ncclGetLastError(communicator_) + ")";
    abort();
    if (result == ncclRemoteError) throw PeerFailed(why);
    throw std::runtime_error(why);
  }
  [[noreturn]] void give_up_late(const std::string& call) {
    abort();
    throw PeerFailed("NCCL: " + call + " was not done in time: a rank has failed, or is late");
  }
  void abort() {
    if (communicator_ != nullptr) static_cast<void>(ncclCommAbort(communicator_));
    communicator_ = nullptr;
  }

  ncclComm_t communicator_ = nullptr;
  int rank_, size_;
  std::chrono::milliseconds limit_;
};

}  // namespace

std::unique_ptr<DeviceCollectives> make_nccl(Communicator& ranks, std::chrono::milliseconds limit) {
  ncclUniqueId id{};
  ncclResult_t made = ncclSuccess;
  if (ranks.root()) made = ncclGetUniqueId(&id);
  ranks.broadcast(std::as_writable_bytes(std::span(&id, 1)), 0);
  if (made != ncclSuccess)
    throw std::runtime_error(std::string("NCCL: ncclGetUniqueId: ") + ncclGetErrorString(made));
  return std::make_unique<Nccl>(id, ranks.rank(), ranks.size(), limit);
}

}  // namespace infalign::distributed
