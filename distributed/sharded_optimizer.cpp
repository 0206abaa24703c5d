#include "distributed/sharded_optimizer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kernels/reproducible_sum/reproducible_sum.h"
#include "kernels/trace.h"

namespace infalign::distributed {
namespace {

std::int64_t blocks_in(std::int64_t n) { return (n + kernels::kSumBlock - 1) / kernels::kSumBlock; }

std::vector<Interval> sorted_disjoint(std::vector<Interval> intervals, std::int64_t n) {
  std::ranges::sort(intervals, {}, &Interval::begin);
  std::int64_t end = 0;
  for (const Interval& interval : intervals) {
    if (interval.begin < end || interval.end < interval.begin || interval.end > n)
      throw std::invalid_argument("ShardedOptimizer: decayed interval [" + std::to_string(interval.begin) +
                                  ", " + std::to_string(interval.end) +
                                  ") overlaps another, or is not within " + std::to_string(n) +
                                  " parameters");
    end = interval.end;
  }
  return intervals;
}

}  // namespace

ShardedOptimizer::ShardedOptimizer(Communicator& communicator, std::int64_t parameters, SumMode mode,
                                   std::vector<Interval> decayed, Sharding sharding, std::int64_t bucket,
                                   const Place& place, Communicator* copies, std::vector<GradientPart> parts,
                                   std::optional<NarrowCopy> copy)
    : communicator_(&communicator),
      copies_(copies),
      of_copies_(place.of_copies),
      sharding_(sharding),
      on_(place.on),
      intervals_(parameter_shares(parameters, communicator.size())),
      block_intervals_(shares(blocks_in(parameters), communicator.size())),
      copy_(std::move(copy)),
      sum_(communicator, parameters, intervals_, mode, sharding, bucket, place, std::move(parts)),
      first_moment_(on_, static_cast<std::size_t>(held().size())),
      second_moment_(on_, static_cast<std::size_t>(held().size())),
      block_squares_(static_cast<std::size_t>(blocks_in(parameters))) {
  if (copies_ != nullptr && on_.device() == kernels::Device::kCuda && of_copies_ == nullptr)
    throw std::invalid_argument("ShardedOptimizer: copies of parameters on GPUs without their collectives");
  std::int64_t done = held().begin;
  const auto add_piece = [&](std::int64_t end, bool decays) {
    end = std::clamp(end, done, held().end);
    if (end > done) pieces_.push_back({{done, end}, decays});
    done = end;
  };
  for (const Interval& interval : sorted_disjoint(std::move(decayed), parameters)) {
    add_piece(interval.begin, false);
    add_piece(interval.end, true);
  }
  add_piece(parameters, false);
  if (copy_) divide_copy();
}

void ShardedOptimizer::divide_copy() {
  vector_intervals_.resize(intervals_.size());
  std::int64_t done = held().begin, vectors = 0;
  const auto add = [&](std::int64_t end, std::optional<std::int64_t> place) {
    end = std::clamp(end, done, held().end);
    if (end > done) copied_.push_back({{done, end}, place});
    done = end;
  };
  for (const Interval& vector : sorted_disjoint(copy_->vectors_at, intervals_.back().end)) {
    add(vector.begin, std::nullopt);
    add(vector.end, vectors + std::max<std::int64_t>(0, done - vector.begin));
    for (std::size_t rank = 0; rank < intervals_.size(); ++rank) {
      vector_intervals_[rank].end +=
          std::clamp(intervals_[rank].end, vector.begin, vector.end) - vector.begin;
    }
    vectors += vector.size();
  }
  add(held().end, std::nullopt);
  for (std::size_t rank = 1; rank < intervals_.size(); ++rank)
    vector_intervals_[rank].begin = vector_intervals_[rank - 1].end;
  if (std::ssize(copy_->vectors) != vectors || std::ssize(copy_->matrices) != passes_read().size())
    throw std::invalid_argument("ShardedOptimizer: a copy with room for " +
                                std::to_string(copy_->matrices.size()) + " parameters, " +
                                std::to_string(copy_->vectors.size()) + " of them vectors'");
}

OptimizerBytes ShardedOptimizer::bytes(std::int64_t parameters, int ranks, SumMode mode, Sharding sharding,
                                       std::span<const GradientPart> parts) {
  std::int64_t share = 0;
  for (const Interval& interval : parameter_shares(parameters, ranks))
    share = std::max(share, interval.size());
  const auto sum = GradientSum::bytes(parameters, ranks, mode, sharding, parts);
  const std::int64_t held = sharding == Sharding::kNothing ? parameters : share;
  return {.gradient = sum.gradient,
          .sums = sum.sums + blocks_in(parameters) * static_cast<std::int64_t>(sizeof(double)),
          .moments = 2 * held * static_cast<std::int64_t>(sizeof(float)),
          .exchange = sum.exchange};
}

Interval ShardedOptimizer::own() const { return intervals_[static_cast<std::size_t>(communicator_->rank())]; }

Interval ShardedOptimizer::held() const {
  return sharding_ == Sharding::kNothing ? Interval{0, intervals_.back().end} : own();
}

Interval ShardedOptimizer::passes_read() const {
  if (sharding_ != Sharding::kParameters) return {0, intervals_.back().end};
  if (copies_ == nullptr) return own();
  const int ranks = communicator_->size(), copies = copies_->size();
  return group_shares(intervals_.back().end, ranks,
                      ranks / copies)[static_cast<std::size_t>(communicator_->rank() / copies)];
}

OptimizerResult ShardedOptimizer::step(kernels::AdamWStep hyper, double max_norm,
                                       std::span<float> parameters) {
  if (std::ssize(parameters) != held_parameters().size())
    throw std::invalid_argument("ShardedOptimizer: " + std::to_string(parameters.size()) +
                                " parameters, not " + std::to_string(held_parameters().size()));
  OptimizerResult result{.gradient_norm = std::numeric_limits<double>::quiet_NaN(), .applied = false};
  const kernels::Span span("optimizer");
  if (sum_.finish()) {
    result.gradient_norm = global_norm();
    result.applied = std::isfinite(result.gradient_norm);
  }
  if (result.applied) {
    const double clipping = max_norm > 0 ? std::min(1.0, max_norm / (result.gradient_norm + 1e-6)) : 1.0;
    hyper.gradient_scale = static_cast<float>(clipping);
    hyper.step = ++steps_;
    apply(hyper, parameters);
  }
  sum_.clear();
  return result;
}

double ShardedOptimizer::global_norm() {
  const Interval blocks = block_intervals_[static_cast<std::size_t>(communicator_->rank())];
  kernels::Returned<double> squares_here(
      on_, block_squares_.span().subspan(static_cast<std::size_t>(blocks.begin),
                                         static_cast<std::size_t>(blocks.size())));
  kernels::sum_of_squares(on_, own().size(), sum_.own().data(), squares_here.data());
  squares_here.fetch();
  communicator_->all_gather(block_squares_.span(), block_intervals_);
  double total = 0;
  for (const double squares : block_squares_.span()) total += squares;
  return std::sqrt(total);
}

void ShardedOptimizer::apply(const kernels::AdamWStep& hyper, std::span<float> parameters) {
  if (sharding_ == Sharding::kNothing) {  // everybody updates everything, by everybody's gradient
    const std::span<float> gradient = sum_.gradient();
    kernels::copy(on_, own().size(), sum_.own().data(), gradient.data() + own().begin);
    sum_.exchange().all_gather(gradient, intervals_);
    update(hyper, gradient, parameters);
  } else {
    update(hyper, sum_.own(), parameters);
  }
  if (copy_)
    publish(parameters);
  else
    gather(parameters);
}

void ShardedOptimizer::publish(std::span<const float> parameters) {
  const auto step = static_cast<std::uint32_t>(steps_);
  for (const auto& [interval, vectors] : copied_) {
    const float* const from = parameters.data() + (interval.begin - held().begin);
    kernels::Bfloat16* const to = copy_->matrices.data() + (interval.begin - passes_read().begin);
    if (vectors)
      kernels::copy(on_, interval.size(), from, copy_->vectors.data() + *vectors);
    else if (copy_->rounding_seed && step > 0)
      kernels::round_at_random(on_, *copy_->rounding_seed, step, interval.begin, interval.size(), from, to);
    else
      kernels::round_to_bfloat16(on_, interval.size(), from, to);
  }
  if (sharding_ != Sharding::kNothing) sum_.exchange().all_gather(copy_->vectors, vector_intervals_);
  gather(copy_->matrices);
}

template <class T>
void ShardedOptimizer::gather(std::span<T> values) {
  if (sharding_ == Sharding::kNothing) return;
  if (sharding_ != Sharding::kParameters) return sum_.exchange().all_gather(values, intervals_);
  if (copies_ != nullptr) gather_held(values);
  sum_.exchange().meet();  // from here on, all that is read is of the next step
}

template <class T>
void ShardedOptimizer::gather_held(std::span<T> values) {
  const Interval part = passes_read();
  const auto first = intervals_.begin() + (communicator_->rank() - copies_->rank());
  std::vector<Interval> of_copies(first, first + copies_->size());
  for (Interval& interval : of_copies) interval = {interval.begin - part.begin, interval.end - part.begin};
  if (on_.device() == kernels::Device::kCuda)
    of_copies_->all_gather(on_, values.data(), of_copies);
  else
    copies_->all_gather(values, of_copies);
}

void ShardedOptimizer::update(const kernels::AdamWStep& hyper, std::span<const float> gradient,
                              std::span<float> parameters) {
  for (const Piece& piece : pieces_) {
    kernels::AdamWStep here = hyper;
    if (!piece.decays) here.weight_decay = 0;
    const std::int64_t offset = piece.interval.begin - held().begin;
    kernels::adamw(on_, here, piece.interval.size(), gradient.data() + offset,
                   parameters.data() + (piece.interval.begin - held_parameters().begin),
                   first_moment_.data() + offset, second_moment_.data() + offset);
  }
}

}  // namespace infalign::distributed
