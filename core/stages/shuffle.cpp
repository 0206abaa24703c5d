#include "core/stages/shuffle.h"

#include <numeric>
#include <utility>

#include "kernels/random/philox.h"

namespace infalign::stages {

std::vector<std::int64_t> permutation(std::uint64_t seed, std::int64_t n, std::int64_t epoch) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (std::int64_t i = n - 1; i > 0; --i) {
    const double u =
        kernels::random_uniform({seed, kernels::Purpose::kShuffle}, static_cast<std::uint64_t>(epoch),
                                static_cast<std::uint32_t>(i), 0);
    std::swap(order[static_cast<std::size_t>(i)],
              order[static_cast<std::size_t>(u * static_cast<double>(i + 1))]);
  }
  return order;
}

std::vector<std::int64_t> ShuffledBatches::batch(std::int64_t size, std::int64_t number) {
  std::vector<std::int64_t> batch;
  for (std::int64_t i = number * size; i < (number + 1) * size; ++i) {
    if (i / n_ != epoch_) {
      epoch_ = i / n_;
      order_ = permutation(seed_, n_, epoch_);
    }
    batch.push_back(order_[static_cast<std::size_t>(i % n_)]);
  }
  return batch;
}

std::vector<std::int64_t> shuffled_batch(std::uint64_t seed, std::int64_t n, std::int64_t size,
                                         std::int64_t number) {
  return ShuffledBatches(seed, n).batch(size, number);
}

}  // namespace infalign::stages
