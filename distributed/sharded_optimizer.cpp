#include "distributed/sharded_optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>

#include "kernels/parallel.h"
#include "kernels/reproducible_sum/reproducible_sum.h"
#include "kernels/trace.h"

namespace infalign::distributed {
namespace {

constexpr std::int64_t kGrain = 16384;

std::int64_t blocks_in(std::int64_t n) { return (n + kernels::kSumBlock - 1) / kernels::kSumBlock; }

template <class T>
void zero(kernels::Buffer<T>& buffer) {
  kernels::parallel_for(std::ssize(buffer.span()), kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::fill(buffer.data() + begin, buffer.data() + end, T{0});
  });
}

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
                                   std::vector<Interval> decayed)
    : communicator_(&communicator),
      mode_(mode),
      intervals_(shares(parameters, communicator.size(), kernels::kSumBlock)),
      block_intervals_(shares(blocks_in(parameters), communicator.size())),
      gradient_(static_cast<std::size_t>(parameters)),
      block_squares_(static_cast<std::size_t>(blocks_in(parameters))) {
  const auto whole = static_cast<std::size_t>(parameters);
  const auto share = static_cast<std::size_t>(own().size());
  if (mode == SumMode::kReproducible) {
    fixed_sum_ = kernels::Buffer<std::int64_t>(whole);
    own_fixed_ = kernels::Buffer<std::int64_t>(share);
  }
  own_gradient_ = kernels::Buffer<float>(share);
  first_moment_ = kernels::Buffer<float>(share);
  second_moment_ = kernels::Buffer<float>(share);

  std::int64_t done = own().begin;
  const auto add_piece = [&](std::int64_t end, bool decays) {
    end = std::clamp(end, done, own().end);
    if (end > done) pieces_.push_back({{done, end}, decays});
    done = end;
  };
  for (const Interval& interval : sorted_disjoint(std::move(decayed), parameters)) {
    add_piece(interval.begin, false);
    add_piece(interval.end, true);
  }
  add_piece(parameters, false);
}

OptimizerBytes ShardedOptimizer::bytes(std::int64_t parameters, int ranks, SumMode mode) {
  constexpr std::int64_t kFloat = sizeof(float), kFixed = sizeof(std::int64_t), kSquares = sizeof(double);
  std::int64_t share = 0;
  for (const Interval& interval : shares(parameters, ranks, kernels::kSumBlock))
    share = std::max(share, interval.size());
  const std::int64_t sums = mode == SumMode::kReproducible ? (parameters + share) * kFixed : 0;
  return {
      .gradient = (parameters + share) * kFloat,
      .sums = sums + blocks_in(parameters) * kSquares,
      .moments = 2 * share * kFloat,
      .exchange = ranks > 1 ? parameters * (mode == SumMode::kReproducible ? kFixed : kFloat) * 3 / 2 : 0};
}

std::span<float> ShardedOptimizer::gradient() { return gradient_.span(); }

Interval ShardedOptimizer::own() const { return intervals_[static_cast<std::size_t>(communicator_->rank())]; }

void ShardedOptimizer::end_micro_batch(std::int64_t micro_batches) {
  if (micro_batches < 1 || (expected_ != 0 && micro_batches != expected_))
    throw std::logic_error("end_micro_batch: a step of " + std::to_string(micro_batches) +
                           " micro-batches, after one was told " + std::to_string(expected_));
  expected_ = micro_batches;
  ++ended_;
  if (mode_ == SumMode::kFast) return;  // what is not finite stays so and shows in the norm
  const std::int64_t n = std::ssize(gradient_.span());
  finite_ =
      kernels::add_fixed_point(stream_, n, micro_batches, gradient_.data(), fixed_sum_.data()) && finite_;
  zero(gradient_);
}

OptimizerResult ShardedOptimizer::step(kernels::AdamWStep hyper, double max_norm,
                                       std::span<float> parameters) {
  if (parameters.size() != gradient_.size())
    throw std::invalid_argument("ShardedOptimizer: " + std::to_string(parameters.size()) +
                                " parameters, not " + std::to_string(gradient_.size()));
  OptimizerResult result{.gradient_norm = std::numeric_limits<double>::quiet_NaN(), .applied = false};
  const kernels::Span span("optimizer");
  if (all_were_finite()) {
    reduce();
    result.gradient_norm = global_norm();
    result.applied = std::isfinite(result.gradient_norm);
  }
  clear();
  if (!result.applied) return result;

  const double clipping = max_norm > 0 ? std::min(1.0, max_norm / (result.gradient_norm + 1e-6)) : 1.0;
  hyper.gradient_scale = static_cast<float>(clipping);
  hyper.step = ++steps_;
  update(hyper, parameters);
  communicator_->all_gather(parameters, intervals_);
  return result;
}

bool ShardedOptimizer::all_were_finite() {
  std::array<std::int64_t, 2> totals{finite_ ? 0 : 1, ended_};
  communicator_->all_reduce_sum(std::span<std::int64_t>(totals));
  const auto [ranks_not_finite, ended] = totals;
  if (expected_ != 0 && ended != expected_)
    throw std::logic_error("step: " + std::to_string(ended) + " micro-batches ended over all ranks, of " +
                           std::to_string(expected_));
  return ranks_not_finite == 0;
}

void ShardedOptimizer::reduce() {
  if (mode_ == SumMode::kReproducible) {
    communicator_->reduce_scatter_sum(fixed_sum_.span(), intervals_, own_fixed_.span());
    kernels::from_fixed_point(stream_, own().size(), own_fixed_.data(), own_gradient_.data());
  } else {
    communicator_->reduce_scatter_sum(gradient_.span(), intervals_, own_gradient_.span());
  }
}

double ShardedOptimizer::global_norm() {
  const Interval blocks = block_intervals_[static_cast<std::size_t>(communicator_->rank())];
  kernels::sum_of_squares(stream_, own().size(), own_gradient_.data(), block_squares_.data() + blocks.begin);
  communicator_->all_gather(block_squares_.span(), block_intervals_);
  double total = 0;
  for (const double squares : block_squares_.span()) total += squares;
  return std::sqrt(total);
}

void ShardedOptimizer::update(const kernels::AdamWStep& hyper, std::span<float> parameters) {
  for (const Piece& piece : pieces_) {
    kernels::AdamWStep here = hyper;
    if (!piece.decays) here.weight_decay = 0;
    const std::int64_t offset = piece.interval.begin - own().begin;
    kernels::adamw(stream_, here, piece.interval.size(), own_gradient_.data() + offset,
                   parameters.data() + piece.interval.begin, first_moment_.data() + offset,
                   second_moment_.data() + offset);
  }
}

void ShardedOptimizer::clear() {
  zero(gradient_);
  zero(fixed_sum_);
  finite_ = true;
  ended_ = 0;
  expected_ = 0;
}

}  // namespace infalign::distributed
