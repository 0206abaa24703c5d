// One optimizer step over all ranks (ZeRO stage 1; Rajbhandari et al. 2020): gradients of micro-batches are summed and reduce-scattered, each rank
// updates its own interval of parameters and moments, parameters are gathered again. In reproducible mode the sum is in 64-bit fixed point, so that
// any number of ranks gives the same bits; in fast mode it is in float32.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "distributed/communicator.h"
#include "kernels/adamw/adamw.h"
#include "kernels/device.h"

namespace infalign::distributed {

enum class SumMode { kReproducible, kFast };

struct OptimizerResult {
  double gradient_norm = 0;  // before clipping
  bool applied = true;       // false: a gradient was not finite, nothing was changed
};

class ShardedOptimizer {
 public:
  /// `decayed` are the intervals of the flat buffer to which weight decay applies.
  ShardedOptimizer(Communicator& communicator, std::int64_t parameters, SumMode mode,
                   std::vector<Interval> decayed);

  /// Where a micro-batch's gradient is accumulated; zeroed by end_micro_batch and step.
  std::span<float> gradient();

  /// Adds gradient() to the step's sum and clears it. `micro_batches` is the number of them in the whole step, over all ranks.
  void end_micro_batch(std::int64_t micro_batches);

  /// Reduces, clips to global norm `max_norm` (0: no clipping), applies AdamW on the own interval, gathers `parameters` on all ranks.
  OptimizerResult step(kernels::AdamWStep hyper, double max_norm, std::span<float> parameters);

  std::span<const Interval> intervals() const;
  Interval own() const;
  /// This rank's interval of the moments, to be stored and restored.
  std::span<float> first_moment();
  std::span<float> second_moment();
  /// Optimizer steps applied so far (bias correction).
  std::int64_t steps() const;
  void set_steps(std::int64_t steps);

 private:
  Communicator* communicator_;
  SumMode mode_;
  std::vector<Interval> intervals_, decayed_;
  kernels::Buffer<float> gradient_, sum_, first_moment_, second_moment_, own_gradient_;
  kernels::Buffer<std::int64_t> fixed_sum_, own_fixed_;
  bool finite_ = true;
  std::int64_t steps_ = 0;
};

}  // namespace infalign::distributed
