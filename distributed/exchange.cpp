#include "distributed/exchange.h"

#include <stdexcept>
#include <utility>

#include "distributed/courier.h"
#include "distributed/timed.h"
#include "kernels/trace.h"

namespace infalign::distributed {
namespace {

class HostExchange final : public Exchange {
 public:
  HostExchange(Communicator& ranks, bool overlaps)
      : ranks_(ranks), courier_(overlaps && ranks.size() > 1 && ranks.concurrent()) {
    if (courier_.has_thread()) couriers_ = ranks.split(0);
  }

  const kernels::Stream& stream() const override { return stream_; }
  bool overlaps() const override { return couriers_ != nullptr; }
  void send(std::function<void()> job) override { courier_.send(std::move(job)); }
  void wait_until(std::size_t most) override { courier_.wait_until(most); }
  void wait() override { courier_.wait(); }
  void finish() override { courier_.wait(); }

  void reduce_scatter_sum(std::span<const float> values, std::span<const Interval> intervals,
                          std::span<float> mine) override {
    reduce(values, intervals, mine);
  }
  void reduce_scatter_sum(std::span<const std::int64_t> values, std::span<const Interval> intervals,
                          std::span<std::int64_t> mine) override {
    reduce(values, intervals, mine);
  }
  void all_gather(std::span<float> values, std::span<const Interval> intervals) override {
    gather(values, intervals);
  }
  void all_gather(std::span<std::uint16_t> values, std::span<const Interval> intervals) override {
    gather(values, intervals);
  }
  void meet() override { ranks_.barrier(); }

  double exposed_seconds() const override { return courier_.waited_seconds() + gathered_; }
  double exchange_seconds() const override { return reduced_ + gathered_; }

 private:
  template <class T>
  void reduce(std::span<const T> values, std::span<const Interval> intervals, std::span<T> mine) {
    Communicator& ranks = couriers_ ? *couriers_ : ranks_;
    const Timed timed(reduced_);
    ranks.reduce_scatter_sum(values, intervals, mine);
  }
  template <class T>
  void gather(std::span<T> values, std::span<const Interval> intervals) {
    const Timed timed(gathered_);
    ranks_.all_gather(values, intervals);
  }

  Communicator& ranks_;
  kernels::Stream stream_;
  std::unique_ptr<Communicator> couriers_;  // the same ranks, for the courier
  double reduced_ = 0;                      // the courier's, until it is waited for
  double gathered_ = 0;
  Courier courier_;  // last: ends before what it works on
};

class DeviceExchange final : public Exchange {
 public:
  DeviceExchange(Communicator& ranks, const Place& place, bool overlaps)
      : computing_(place.on),
        collectives_(ranks.size() > 1 ? place.collectives : nullptr),
        overlaps_(overlaps && collectives_ != nullptr),
        stream_(overlaps_ ? place.on.beside() : place.on) {
    if (ranks.size() > 1 && collectives_ == nullptr)
      throw std::invalid_argument("Exchange: several ranks on GPUs without collectives of theirs");
  }
  ~DeviceExchange() override {
    try {
      wait();  // memory that jobs use is given back in the order of the computing stream
    } catch (const std::exception&) {
      // The device has failed, and what it does no longer matters.
    }
  }

  const kernels::Stream& stream() const override { return stream_; }
  bool overlaps() const override { return overlaps_; }
  void send(std::function<void()> job) override {
    if (overlaps_) {
      computed_.record(computing_);
      stream_.wait(computed_);
    }
    job();
  }
  void wait_until(std::size_t) override {}
  void wait() override {
    if (!overlaps_) return;
    done_.record(stream_);
    computing_.wait(done_);
  }
  void finish() override {
    wait();
    if (collectives_ == nullptr) return;
    const kernels::Span span("ranks: gradients");
    collectives_->wait(stream_);
  }

  void reduce_scatter_sum(std::span<const float> values, std::span<const Interval> intervals,
                          std::span<float> mine) override {
    reduce(values, intervals, mine);
  }
  void reduce_scatter_sum(std::span<const std::int64_t> values, std::span<const Interval> intervals,
                          std::span<std::int64_t> mine) override {
    reduce(values, intervals, mine);
  }
  void all_gather(std::span<float> values, std::span<const Interval> intervals) override {
    gather(values, intervals);
  }
  void all_gather(std::span<std::uint16_t> values, std::span<const Interval> intervals) override {
    gather(values, intervals);
  }
  void meet() override {
    if (collectives_ != nullptr) collectives_->all_reduce_sum(computing_, 1, met_.data());
  }

  double exposed_seconds() const override { return 0; }
  double exchange_seconds() const override { return 0; }

 private:
  template <class T>
  void reduce(std::span<const T> values, std::span<const Interval> intervals, std::span<T> mine) {
    if (collectives_ != nullptr)
      collectives_->reduce_scatter_sum(stream_, values.data(), intervals, mine.data());
    else
      kernels::copy(stream_, std::ssize(values), values.data(), mine.data());
  }
  template <class T>
  void gather(std::span<T> values, std::span<const Interval> intervals) {
    if (collectives_ != nullptr) collectives_->all_gather(computing_, values.data(), intervals);
  }

  kernels::Stream computing_;
  DeviceCollectives* collectives_;
  bool overlaps_;
  kernels::Stream stream_;
  kernels::Event computed_, done_;
  kernels::Buffer<std::uint64_t> met_{computing_, 1};  // 0: no rank's is done before all ranks are there
};

}  // namespace

std::unique_ptr<Exchange> make_exchange(Communicator& ranks, const Place& place, bool overlaps) {
  if (place.on.device() == kernels::Device::kCuda)
    return std::make_unique<DeviceExchange>(ranks, place, overlaps);
  return std::make_unique<HostExchange>(ranks, overlaps);
}

}  // namespace infalign::distributed
