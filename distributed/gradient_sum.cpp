#include "distributed/gradient_sum.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/bias/bias.h"
#include "kernels/pages.h"
#include "kernels/reproducible_sum/reproducible_sum.h"
#include "kernels/trace.h"

namespace infalign::distributed {
namespace {

// Buckets of gradient that may wait for the courier where memory is what counts.
constexpr std::size_t kMostWaiting = 3;

template <class T>
std::span<T> part(kernels::Buffer<T>& buffer, Interval interval) {
  return buffer.span().subspan(static_cast<std::size_t>(interval.begin),
                               static_cast<std::size_t>(interval.size()));
}

template <class T>
void zero(const kernels::Stream& on, std::span<T> values) {
  kernels::fill_zero(on, std::ssize(values), values.data());
}

void add_to(const kernels::Stream& on, std::span<float> sum, std::span<const float> values) {
  kernels::bias_forward(on, 1, std::ssize(values), values.data(), sum.data());
}
void add_to(const kernels::Stream& on, std::span<std::int64_t> sum, std::span<const std::int64_t> values) {
  kernels::add_sums(on, std::ssize(values), values.data(), sum.data());
}

/// Values in each slot: its largest part's.
std::vector<std::int64_t> slot_sizes(std::span<const GradientPart> parts) {
  std::vector<std::int64_t> sizes;
  for (const auto& [interval, slot] : parts) {
    sizes.resize(std::max(sizes.size(), slot + 1));
    sizes[slot] = std::max(sizes[slot], interval.size());
  }
  return sizes;
}

/// One part of all where they are not to be told apart. Errors: std::invalid_argument.
std::vector<GradientPart> parts_held(std::vector<GradientPart> parts, std::int64_t parameters,
                                     bool in_parts) {
  if (!in_parts || parts.empty()) return {{{0, parameters}, 0}};
  std::int64_t end = 0;
  for (const auto& [interval, slot] : parts) {
    if (interval.begin != end || interval.size() <= 0)
      throw std::invalid_argument("GradientSum: parts that do not follow one another");
    end = interval.end;
  }
  if (end != parameters) throw std::invalid_argument("GradientSum: parts of another gradient");
  return parts;
}

bool holds_whole_sum(SumMode mode, Sharding sharding) {
  return mode == SumMode::kReproducible && sharding <= Sharding::kOptimizer;
}

/// Whether reducing goes on beside computing: a gradient of one bucket is sooner reduced where it is.
bool overlaps(std::int64_t parameters, Sharding sharding, std::int64_t largest) {
  return sharding >= Sharding::kGradients || parameters > largest;
}

/// A small model has smaller buckets, so that there are several to be under way.
std::int64_t bucket_of(std::int64_t parameters, Sharding sharding, std::int64_t largest) {
  if (!overlaps(parameters, sharding, largest)) return std::max<std::int64_t>(parameters, 1);
  constexpr std::int64_t kSmallest = std::int64_t{1} << 15, kFewest = 16;
  return std::min(largest,
                  std::max(kSmallest, parameters / kFewest / kernels::kSumBlock * kernels::kSumBlock));
}

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

GradientSum::Bytes GradientSum::bytes(std::int64_t parameters, int ranks, SumMode mode, Sharding sharding,
                                      std::span<const GradientPart> parts) {
  constexpr std::int64_t kFloat = sizeof(float), kFixed = sizeof(std::int64_t);
  std::int64_t share = 0;
  for (const Interval& interval : shares(parameters, ranks, kernels::kSumBlock))
    share = std::max(share, interval.size());
  const std::int64_t bucket = std::min(parameters, bucket_of(parameters, sharding, kBucket));
  const bool every = sharding >= Sharding::kGradients, reproducible = mode == SumMode::kReproducible;
  Bytes bytes;
  bytes.gradient =
      kFloat * (every ? std::min<std::int64_t>(parameters, (kMostWaiting + 2) * bucket) : parameters);
  if (every && !parts.empty()) {
    const auto slots = slot_sizes(parts);
    bytes.gradient = kFloat * std::accumulate(slots.begin(), slots.end(), std::int64_t{0});
  }
  bytes.sums = share * kFloat + static_cast<std::int64_t>(sizeof(std::uint32_t));
  if (reproducible) bytes.sums += (every ? share + bucket : parameters) * kFixed + bucket * kFixed;
  if (!reproducible && every) bytes.sums += 2 * bucket * kFloat;
  if (ranks > 1) bytes.exchange = bucket * (reproducible ? kFixed : kFloat) * 3 / 2;
  return bytes;
}

GradientSum::GradientSum(Communicator& communicator, std::int64_t parameters, std::vector<Interval> intervals,
                         SumMode mode, Sharding sharding, std::int64_t bucket, const Place& place,
                         std::vector<GradientPart> parts)
    : communicator_(&communicator),
      parameters_(parameters),
      intervals_(std::move(intervals)),
      mode_(mode),
      sharding_(sharding),
      bucket_(bucket_of(parameters, sharding, bucket)),
      on_(place.on),
      parts_(parts_held(std::move(parts), parameters,
                        on_.device() == kernels::Device::kCuda && every_micro_batch())),
      own_(on_, static_cast<std::size_t>(own_interval().size())),
      refused_(on_, 1),
      next_(parameters),
      exchange_(make_exchange(communicator, place, overlaps(parameters, sharding, bucket))) {
  for (const std::int64_t size : slot_sizes(parts_))
    slots_.emplace_back().values = kernels::Buffer<float>(on_, static_cast<std::size_t>(size));
  if (communicator.size() > 1 && !exchange_->overlaps() && every_micro_batch())
    throw std::runtime_error(
        "gradients are sharded while others are computed, which needs an MPI library that may be called from "
        "several threads (MPI_THREAD_MULTIPLE)");
  const auto most = static_cast<std::size_t>(std::min(parameters, bucket_));
  if (mode == SumMode::kReproducible) {
    fixed_sum_ = kernels::Buffer<std::int64_t>(
        on_, holds_whole_sum(mode, sharding) ? static_cast<std::size_t>(parameters) : own_.size());
    fixed_part_ = kernels::Buffer<std::int64_t>(on_, most);
    if (every_micro_batch()) fixed_bucket_ = kernels::Buffer<std::int64_t>(on_, most);
  } else if (every_micro_batch()) {
    float_part_ = kernels::Buffer<float>(on_, most);
    zeros_ = kernels::Buffer<float>(on_, most);
  }
}

Interval GradientSum::own_interval() const {
  return intervals_[static_cast<std::size_t>(communicator_->rank())];
}

std::span<float> GradientSum::gradient() {
  if (parts_.size() > 1) throw std::logic_error("GradientSum: the gradient is held in parts");
  exchange_->wait();
  begun_ = true;
  return slots_[0].values.span();
}

float* GradientSum::gradient_at(std::int64_t offset) {
  if (parts_.size() == 1) return (begun_ ? slots_[0].values.data() : gradient().data()) + offset;
  const GradientPart& part = part_with(offset);
  Slot& slot = slots_[part.slot];
  if (slot.holds != nullptr && slot.holds != &part)
    throw std::logic_error("GradientSum: two parts at once in one slot");
  if (slot.holds == nullptr) on_.wait(slot.summed);
  slot.holds = &part;
  return slot.values.data() + (offset - part.interval.begin);
}

const GradientPart& GradientSum::part_with(std::int64_t offset) const {
  const auto after = std::ranges::upper_bound(parts_, offset, {},
                                              [](const GradientPart& part) { return part.interval.begin; });
  return *std::prev(after);
}

void GradientSum::begin_step(std::int64_t micro_batches, std::int64_t mine) {
  expected_ = micro_batches;
  share_ = mine;
  // Rounds without a micro-batch of this rank come first: others need not wait for it to have time for them.
  const std::int64_t rounds = every_micro_batch() ? ceil_divide(micro_batches, communicator_->size()) : 1;
  if (!exchange_->overlaps()) return;
  for (std::int64_t missed = every_micro_batch() ? rounds - share_ : share_ == 0; missed > 0; --missed)
    send_round_without_gradient();
}

void GradientSum::complete_from(std::int64_t offset) {
  if (expected_ != 0) send_from(offset, reduces_this_one(), true);
}

void GradientSum::end_micro_batch(std::int64_t micro_batches) {
  if (micro_batches < 1 || (expected_ != 0 && micro_batches != expected_))
    throw std::logic_error("end_micro_batch: a step of " + std::to_string(micro_batches) +
                           " micro-batches, after one was told " + std::to_string(expected_));
  const bool told = share_ > 0;
  if ((told && ended_ == share_) || (!told && exchange_->overlaps() && every_micro_batch()))
    throw std::logic_error("end_micro_batch: one more than this rank's share of the " +
                           std::to_string(micro_batches) + " that the step began with");
  expected_ = micro_batches;
  complete_from(0);
  next_ = parameters_;
  begun_ = false;
  if (reduces_this_one()) ++rounds_;
  ++ended_;
}

bool GradientSum::finish() {
  const std::int64_t rounds =
      every_micro_batch() ? ceil_divide(expected_, communicator_->size()) : std::int64_t{1};
  while (rounds_ < rounds) send_round_without_gradient();
  exchange_->finish();
  std::array<std::uint32_t, 1> refused{};
  kernels::download(on_, std::as_const(refused_).data(), std::span<std::uint32_t>(refused));
  std::array<std::int64_t, 2> totals{refused[0] == 0 ? 0 : 1, ended_};
  communicator_->all_reduce_sum(std::span<std::int64_t>(totals));
  const auto [ranks_not_finite, ended] = totals;
  if (expected_ != 0 && ended != expected_)
    throw std::logic_error("step: " + std::to_string(ended) + " micro-batches ended over all ranks, of " +
                           std::to_string(expected_));
  if (mode_ == SumMode::kReproducible && every_micro_batch())
    kernels::from_fixed_point(on_, std::ssize(own_.span()), fixed_sum_.data(), own_.data());
  return ranks_not_finite == 0;
}

std::span<const float> GradientSum::own() { return own_.span(); }

void GradientSum::clear() {
  for (Slot& slot : slots_) {
    forget(on_, slot.values.span());
    slot.holds = nullptr;
  }
  zero(on_, fixed_sum_.span());
  zero(on_, own_.span());
  zero(on_, refused_.span());
  next_ = parameters_;
  begun_ = false;
  ended_ = expected_ = share_ = rounds_ = 0;
}

Interval GradientSum::bucket_below(std::int64_t end) const {
  return {std::max(part_with(end - 1).interval.begin, (end - 1) / bucket_ * bucket_), end};
}

std::span<float> GradientSum::gradient_of(Interval bucket) {
  const GradientPart& in = part_with(bucket.begin);
  return part(slots_[in.slot].values, {bucket.begin - in.interval.begin, bucket.end - in.interval.begin});
}

void GradientSum::forget(const kernels::Stream& on, std::span<float> gradient) const {
  if (every_micro_batch() && on.device() == kernels::Device::kCpu)
    kernels::give_back(gradient);
  else
    zero(on, gradient);
}

void GradientSum::send_from(std::int64_t offset, bool reduces, bool has_gradient) {
  while (next_ > offset) {
    const Interval bucket = bucket_below(next_);
    if (bucket.begin < offset) break;
    exchange_->send([this, bucket, reduces, has_gradient, terms = expected_] {
      add(bucket, reduces, has_gradient, terms);
    });
    if (every_micro_batch() && has_gradient) exchange_->wait_until(kMostWaiting);
    next_ = bucket.begin;
    const GradientPart& part = part_with(bucket.begin);
    if (!has_gradient || parts_.size() == 1 || bucket.begin > part.interval.begin) continue;
    slots_[part.slot].summed.record(exchange_->stream());
    slots_[part.slot].holds = nullptr;
  }
}

void GradientSum::send_round_without_gradient() {
  next_ = parameters_;
  send_from(0, true, false);
  next_ = parameters_;
  ++rounds_;
}

void GradientSum::add(Interval bucket, bool reduces, bool has_gradient, std::int64_t terms) {
  const kernels::Span span("add gradients");
  const kernels::Stream& on = exchange_->stream();
  const std::span<float> gradient = gradient_of(bucket);
  const auto add_fixed = [&](std::span<std::int64_t> sum) {
    if (!has_gradient) return;
    kernels::add_fixed_point(on, bucket.size(), terms, gradient.data(), sum.data(), refused_.data());
    forget(on, gradient);
  };
  if (mode_ == SumMode::kReproducible && every_micro_batch()) {
    const auto sum = part(fixed_bucket_, {0, bucket.size()});
    zero(on, sum);
    add_fixed(sum);
    reduce(bucket, sum);
  } else if (mode_ == SumMode::kReproducible) {
    const auto sum = part(fixed_sum_, bucket);
    add_fixed(sum);
    if (reduces) reduce(bucket, sum);
  } else if (every_micro_batch()) {
    reduce(bucket, has_gradient ? gradient : part(zeros_, {0, bucket.size()}));
    if (has_gradient) forget(on, gradient);
  } else if (reduces) {
    reduce(bucket, gradient);
  }
}

template <class T>
void GradientSum::reduce(Interval bucket, std::span<T> sums) {
  const auto parts = parts_of(bucket);
  const Interval own_part = parts[static_cast<std::size_t>(communicator_->rank())];
  const std::int64_t begin = bucket.begin + own_part.begin - own_interval().begin;
  const Interval place{begin, begin + own_part.size()};
  const auto scatter = [&](std::span<T> into) {
    exchange_->reduce_scatter_sum(std::span<const T>(sums), parts, into);
  };
  if constexpr (std::is_same_v<T, float>) {
    if (!every_micro_batch()) return scatter(place.size() > 0 ? part(own_, place) : std::span<float>());
    const auto mine = part(float_part_, {0, own_part.size()});
    scatter(mine);
    if (place.size() > 0) add_to(exchange_->stream(), part(own_, place), mine);
  } else {
    const auto mine = part(fixed_part_, {0, own_part.size()});
    scatter(mine);
    if (place.size() == 0) return;
    if (every_micro_batch())
      add_to(exchange_->stream(), part(fixed_sum_, place), mine);
    else
      kernels::from_fixed_point(exchange_->stream(), place.size(), mine.data(), part(own_, place).data());
  }
}

std::vector<Interval> GradientSum::parts_of(Interval bucket) const {
  std::vector<Interval> parts;
  for (const Interval& interval : intervals_)
    parts.push_back({std::clamp<std::int64_t>(interval.begin - bucket.begin, 0, bucket.size()),
                     std::clamp<std::int64_t>(interval.end - bucket.begin, 0, bucket.size())});
  return parts;
}

}  // namespace infalign::distributed
