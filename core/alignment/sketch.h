// The pooled reward-quantile sketch: counts of rewards over an order-preserving integer key of the float.
// Merging two sketches is integer addition, so the all-reduced sketch has the same bits whatever the number
// of ranks or the order (method, "Distributed calibration"). It is apart from calibration because ranks must
// be able to sum it knowing nothing but "a vector of unsigned 64-bit integers".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace infalign::alignment {

/// An integer that orders as the float does (-0 and +0 apart). Errors: std::domain_error for NaN.
std::uint32_t ordered_key(float reward);
float from_ordered_key(std::uint32_t key);

class RewardSketch {
 public:
  /// A bucket holds the keys that round to the same upper 16 bits: sign, exponent, seven bits of the
  /// mantissa. Because the key is rounded, not cut, a value that bfloat16 holds exactly (0, 1, -0.5, 3.25:
  /// verifier rewards, the output of bfloat16 reward models) lies in the middle of its bucket, where
  /// interpolation gives ties their mid-rank.
  static constexpr int kKeyBits = 16;
  static constexpr std::size_t kBuckets = std::size_t{1} << kKeyBits;

  RewardSketch() : counts_(kBuckets) {}
  /// Errors: std::domain_error for NaN; then nothing of the call has been counted.
  void add(float reward);
  void add(std::span<const float> rewards);

  /// The vector that ranks sum, [kBuckets].
  std::span<std::uint64_t> counts() { return counts_; }
  std::span<const std::uint64_t> counts() const { return counts_; }
  std::uint64_t total() const;

  /// Mid-rank cumulative distribution at `reward`, interpolated inside its bucket; 1/2 without data. Reads
  /// all the counts: ask a RewardDistribution when there are many questions. Errors: std::domain_error for
  /// NaN.
  double cumulative(float reward) const;
  /// The reward at a level in [0, 1] to within its bucket (relative width 2^-7). Errors: std::domain_error
  /// without data or for a level outside.
  float quantile(double level) const;

 private:
  std::vector<std::uint64_t> counts_;
};

/// A sketch that no longer changes, with its running sums: the same cumulative distribution in O(1).
class RewardDistribution {
 public:
  explicit RewardDistribution(const RewardSketch& sketch);
  double cumulative(float reward) const;

 private:
  std::vector<std::uint64_t> below_;  // [kBuckets + 1], rewards in the buckets before this one
};

/// The second pass that makes chosen quantiles exact: counts of every key inside the buckets that hold the
/// wanted order statistics. Construct from the summed sketch, add all rewards again, sum counts() over ranks,
/// ask.
class QuantileRefinement {
 public:
  /// Errors: std::domain_error without data or for a level outside [0, 1].
  QuantileRefinement(const RewardSketch& sketch, std::span<const double> levels);
  /// Errors: std::domain_error for NaN.
  void add(std::span<const float> rewards);
  std::span<std::uint64_t> counts() { return counts_; }
  /// The order statistic of 0-based rank min(n - 1, floor(level n)) for each level.
  /// Errors: std::logic_error if the rewards of the second pass were not those of the sketch.
  std::vector<float> quantiles() const;

 private:
  struct Wanted {
    std::uint32_t bucket = 0;
    std::uint64_t rank_in_bucket = 0;
    std::size_t table = 0;  // which 65,536 counts
  };
  std::vector<Wanted> wanted_;
  std::vector<std::uint32_t> buckets_;  // distinct, ascending
  std::vector<std::uint64_t> counts_;   // [buckets, 65536]
};

}  // namespace infalign::alignment
