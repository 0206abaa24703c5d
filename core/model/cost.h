// What passes through the decoder cost in floating-point operations, and how fast they are done here. Only
// matrix products and attention are counted; the rest is memory traffic.
#pragma once

#include <cstdint>

#include "core/model/model_config.h"
#include "core/model/transformer.h"
#include "kernels/linear/linear.h"

namespace infalign::model {

/// The rows that go through a model.
struct Pass {
  double tokens = 0;   // through the blocks
  double pairs = 0;    // of a token with one it attends to
  double targets = 0;  // through the language-model head

  /// n tokens behind a prefix that was there before.
  static Pass continuation(double prefix, double n) { return {n, n * prefix + n * (n + 1) / 2, 0}; }
  static Pass sequence(double n) { return continuation(0, n); }
  Pass& operator+=(const Pass& other);
  Pass operator*(double times) const { return {tokens * times, pairs * times, targets * times}; }
};

/// 2 x parameters in products x tokens, and 4 x heads x head_dim x layers x pairs for attention. Sliding
/// windows are not looked at: pairs that they leave out count.
double forward_operations(const ModelConfig& config, const Pass& pass);

/// What of a model is trained.
enum class Trained {
  kAll,
  kAdapter,  // little beside the products with the frozen weights, whose own gradient is not computed
};

/// Forward and backward: every product is done three times, two where weights are frozen; attention computes
/// its scores once more. With `keep` kBlockInputs the blocks are done once more.
double training_operations(const ModelConfig& config, const Pass& pass, Trained trained = Trained::kAll,
                           Keep keep = Keep::kEverything);

/// Operations per second of this process in the largest product of the model's blocks, for T tokens, on the
/// threads that kernels use; takes about a fifth of a second.
double measure_speed(const ModelConfig& config, std::int64_t T, kernels::Precision precision);

}  // namespace infalign::model
