// The order in which training visits its data: a fresh permutation each epoch, a pure function of seed and
// epoch, so that a resumed run goes on in the same order and every rank knows the whole of it.
#pragma once

#include <cstdint>
#include <vector>

namespace infalign::stages {

/// A permutation of [0, n) for this epoch.
std::vector<std::int64_t> permutation(std::uint64_t seed, std::int64_t n, std::int64_t epoch);

/// The endless sequence of epochs over [0, n), cut into batches; n >= 1. Batches asked for in order draw each
/// epoch's permutation once.
class ShuffledBatches {
 public:
  ShuffledBatches(std::uint64_t seed, std::int64_t n) : seed_(seed), n_(n) {}
  /// The `size` items of batch `number` (from 0).
  std::vector<std::int64_t> batch(std::int64_t size, std::int64_t number);

 private:
  std::uint64_t seed_;
  std::int64_t n_, epoch_ = -1;
  std::vector<std::int64_t> order_;
};

/// The `size` items of batch `number` (from 0) of the endless sequence of epochs over [0, n); n >= 1.
std::vector<std::int64_t> shuffled_batch(std::uint64_t seed, std::int64_t n, std::int64_t size,
                                         std::int64_t number);

}  // namespace infalign::stages
