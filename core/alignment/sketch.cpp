#include "core/alignment/sketch.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace infalign::alignment {
namespace {

constexpr int kLowerBits = 32 - RewardSketch::kKeyBits;
constexpr std::uint32_t kBucketWidth = std::uint32_t{1} << kLowerBits;
constexpr std::uint32_t kHalfBucket = kBucketWidth / 2;
constexpr std::uint32_t kSign = 0x80000000u;

/// Where a key lies: which bucket, and how far into it. The largest key is that of +infinity, so rounding
/// cannot wrap.
struct Place {
  std::uint32_t bucket, offset;
};
Place place_of(std::uint32_t key) {
  const std::uint32_t shifted = key + kHalfBucket;
  return {shifted >> kLowerBits, shifted & (kBucketWidth - 1)};
}

/// The reward `fraction` of the way through a bucket, held inside the floats (the outermost buckets reach
/// beyond).
float reward_at(std::uint32_t bucket, double fraction) {
  static const double lowest = ordered_key(-std::numeric_limits<float>::infinity());
  static const double highest = ordered_key(std::numeric_limits<float>::infinity());
  const double key = (static_cast<double>(bucket) + fraction) * kBucketWidth - kHalfBucket;
  return from_ordered_key(static_cast<std::uint32_t>(std::clamp(key, lowest, highest)));
}

double mid_rank(std::uint64_t below, std::uint64_t inside, std::uint64_t total, std::uint32_t offset) {
  if (total == 0) return 0.5;
  const double fraction = (offset + 0.5) / kBucketWidth;
  return (static_cast<double>(below) + fraction * static_cast<double>(inside)) / static_cast<double>(total);
}

void require_level(double level, std::uint64_t total) {
  if (!(level >= 0 && level <= 1)) throw std::domain_error("a quantile's level must lie in [0, 1]");
  if (total == 0) throw std::domain_error("no quantile without rewards");
}

}  // namespace

std::uint32_t ordered_key(float reward) {
  if (std::isnan(reward)) throw std::domain_error("a reward is NaN");
  const auto bits = std::bit_cast<std::uint32_t>(reward);
  return bits & kSign ? ~bits : bits | kSign;
}

float from_ordered_key(std::uint32_t key) { return std::bit_cast<float>(key & kSign ? key & ~kSign : ~key); }

void RewardSketch::add(float reward) { ++counts_[place_of(ordered_key(reward)).bucket]; }

void RewardSketch::add(std::span<const float> rewards) {
  for (float reward : rewards) ordered_key(reward);  // refuse all of them before counting any
  for (float reward : rewards) add(reward);
}

std::uint64_t RewardSketch::total() const {
  return std::accumulate(counts_.begin(), counts_.end(), std::uint64_t{0});
}

double RewardSketch::cumulative(float reward) const {
  const Place place = place_of(ordered_key(reward));
  const auto here = counts_.begin() + place.bucket;
  return mid_rank(std::accumulate(counts_.begin(), here, std::uint64_t{0}), *here, total(), place.offset);
}

float RewardSketch::quantile(double level) const {
  const std::uint64_t n = total();
  require_level(level, n);
  const double wanted = level * static_cast<double>(n);
  std::uint64_t below = 0;
  std::uint32_t last = 0;
  for (std::uint32_t bucket = 0; bucket < kBuckets; ++bucket) {
    if (counts_[bucket] == 0) continue;
    last = bucket;
    const double into = (wanted - static_cast<double>(below)) / static_cast<double>(counts_[bucket]);
    if (into <= 1) return reward_at(bucket, into);
    below += counts_[bucket];
  }
  return reward_at(last, 1);
}

RewardDistribution::RewardDistribution(const RewardSketch& sketch) : below_(RewardSketch::kBuckets + 1) {
  std::partial_sum(sketch.counts().begin(), sketch.counts().end(), below_.begin() + 1);
}

double RewardDistribution::cumulative(float reward) const {
  const Place place = place_of(ordered_key(reward));
  const std::uint64_t below = below_[place.bucket];
  return mid_rank(below, below_[place.bucket + 1] - below, below_.back(), place.offset);
}

QuantileRefinement::QuantileRefinement(const RewardSketch& sketch, std::span<const double> levels) {
  const std::uint64_t n = sketch.total();
  const RewardSketch& pooled = sketch;
  std::vector<std::uint64_t> through(RewardSketch::kBuckets);  // rewards up to and including each bucket
  std::partial_sum(pooled.counts().begin(), pooled.counts().end(), through.begin());
  for (double level : levels) {
    require_level(level, n);
    const auto rank = std::min(n - 1, static_cast<std::uint64_t>(std::floor(level * static_cast<double>(n))));
    const auto bucket =
        static_cast<std::uint32_t>(std::upper_bound(through.begin(), through.end(), rank) - through.begin());
    wanted_.push_back({bucket, rank - (through[bucket] - pooled.counts()[bucket]), 0});
    buckets_.push_back(bucket);
  }
  std::sort(buckets_.begin(), buckets_.end());
  buckets_.erase(std::unique(buckets_.begin(), buckets_.end()), buckets_.end());
  for (Wanted& wanted : wanted_) {
    const auto table = std::lower_bound(buckets_.begin(), buckets_.end(), wanted.bucket);
    wanted.table = static_cast<std::size_t>(table - buckets_.begin());
  }
  counts_.resize(buckets_.size() * kBucketWidth);
}

void QuantileRefinement::add(std::span<const float> rewards) {
  for (float reward : rewards) {
    const Place place = place_of(ordered_key(reward));
    const auto table = std::lower_bound(buckets_.begin(), buckets_.end(), place.bucket);
    if (table == buckets_.end() || *table != place.bucket) continue;
    ++counts_[static_cast<std::size_t>(table - buckets_.begin()) * kBucketWidth + place.offset];
  }
}

std::vector<float> QuantileRefinement::quantiles() const {
  std::vector<float> result;
  for (const Wanted& wanted : wanted_) {
    const std::uint64_t* table = counts_.data() + wanted.table * kBucketWidth;
    std::uint64_t through = 0;
    std::uint32_t offset = 0;
    while (offset < kBucketWidth && (through += table[offset]) <= wanted.rank_in_bucket) ++offset;
    if (offset == kBucketWidth)
      throw std::logic_error("quantile refinement saw other rewards than its sketch");
    result.push_back(from_ordered_key((wanted.bucket << kLowerBits) + offset - kHalfBucket));
  }
  return result;
}

}  // namespace infalign::alignment
