// The pooled reward-quantile sketch: counts of rewards over an order-preserving integer key of the float. Merging two sketches is integer addition,
// so the all-reduced sketch has the same bits whatever the number of ranks or the order (method, "Distributed calibration").
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace infalign::alignment {

/// An integer that orders as the float does (-0 and +0 apart). Errors: std::domain_error for NaN.
std::uint32_t ordered_key(float reward);
float from_ordered_key(std::uint32_t key);

class RewardSketch {
 public:
  static constexpr int kKeyBits = 16;  // upper bits of the key: sign, exponent, seven bits of the mantissa
  static constexpr std::size_t kBuckets = std::size_t{1} << kKeyBits;

  RewardSketch() : counts_(kBuckets) {}
  void add(float reward);
  void add(std::span<const float> rewards);

  /// The vector that ranks sum.
  std::span<std::uint64_t> counts() { return counts_; }
  std::span<const std::uint64_t> counts() const { return counts_; }
  std::uint64_t total() const;

  /// Mid-rank cumulative distribution at `reward`, interpolated inside its bucket; 1/2 without data.
  double cumulative(float reward) const;
  /// The reward at a level in [0, 1] to within its bucket (relative width 2^-7). Errors: std::domain_error without data.
  float quantile(double level) const;

 private:
  std::vector<std::uint64_t> counts_;
};

/// The second pass that makes chosen quantiles exact: counts of the lower 16 key bits inside the buckets that hold the
/// wanted order statistics. Construct from the summed sketch, add all rewards again, sum counts() over ranks, ask.
class QuantileRefinement {
 public:
  QuantileRefinement(const RewardSketch& sketch, std::span<const double> levels);
  void add(std::span<const float> rewards);
  std::span<std::uint64_t> counts() { return counts_; }
  /// The order statistic of 0-based rank min(n - 1, floor(level n)) for each level.
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
