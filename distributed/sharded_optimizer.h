// One optimizer step over all ranks (ZeRO stage 1; Rajbhandari et al. 2020): gradients of micro-batches are
// summed and reduce-scattered, each rank updates its own interval of parameters and moments, parameters are
// gathered again. In reproducible mode the sum is in 64-bit fixed point, so that any number of ranks gives
// the same bits; in fast mode it is in float32. The gradient is what the caller makes it, a sum or an
// average; nothing is rescaled here.
//
// Memory in bytes for each parameter, on each of R ranks (the parameters themselves are the caller's):
//   reproducible   4 gradient + 8 sum + (8 + 4 own sum and gradient + 8 moments) / R = 12 + 20 / R
//   fast           4 gradient + (4 own gradient + 8 moments) / R                     =  4 + 12 / R
// Open MPI's reduce-scatter takes up to 1.5 times the sum besides, while it runs: 12 and 6 more.
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
  double gradient_norm = 0;  // before clipping; not finite where the step was not applied
  bool applied = true;       // false: a gradient was not finite (or beyond fixed point), nothing was changed
};

/// Memory of the optimizer on the rank with the largest share.
struct OptimizerBytes {
  std::int64_t gradient = 0;  // of a micro-batch (fast mode: of all), and the own interval of the sum
  std::int64_t sums = 0;      // over micro-batches
  std::int64_t moments = 0;   // of the own interval
  std::int64_t exchange =
      0;  // MPI's own, while it reduces: with several ranks, one and a half times the sums
};

class ShardedOptimizer {
 public:
  static OptimizerBytes bytes(std::int64_t parameters, int ranks, SumMode mode);

  /// For a flat buffer of `parameters` values, P in the shapes below. `decayed` are the intervals to which
  /// weight decay applies. Errors: std::invalid_argument if they overlap or leave the buffer.
  ShardedOptimizer(Communicator& communicator, std::int64_t parameters, SumMode mode,
                   std::vector<Interval> decayed);

  /// Where a micro-batch's gradient is accumulated, [P]: added to what is there. Zeroed by step, and in
  /// reproducible mode by end_micro_batch.
  std::span<float> gradient();

  /// Adds gradient() to the step's sum; in fast mode it is the sum itself. `micro_batches` is the number of
  /// them in the whole step, over all ranks; a rank may have none. In reproducible mode a gradient's entries
  /// are to stay below 2^19 / micro_batches in magnitude; one beyond counts as not finite.
  void end_micro_batch(std::int64_t micro_batches);

  /// Reduces, clips to global norm `max_norm` (0: no clipping), applies AdamW on the own interval, gathers
  /// `parameters` [P] on all ranks. Of `hyper`, step and gradient_scale are set here. All ranks get the same
  /// result. In both modes the sum starts again at zero, whether applied or not. Errors: std::logic_error if
  /// more or fewer micro-batches ended, over all ranks, than end_micro_batch was told.
  OptimizerResult step(kernels::AdamWStep hyper, double max_norm, std::span<float> parameters);

  /// The ranks' intervals of [0, P), borders at multiples of kernels::kSumBlock.
  std::span<const Interval> intervals() const { return intervals_; }
  Interval own() const;
  /// This rank's interval of the moments, [own().size()], to be stored and restored.
  std::span<float> first_moment() { return first_moment_.span(); }
  std::span<float> second_moment() { return second_moment_.span(); }
  /// Optimizer steps applied so far (bias correction).
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }

 private:
  /// A piece of the own interval in which all parameters decay, or none.
  struct Piece {
    Interval interval;
    bool decays;
  };

  /// True on all ranks where every micro-batch of every rank could be added.
  bool all_were_finite();
  /// own_gradient_ = this rank's interval of the sum over ranks.
  void reduce();
  /// Of the whole gradient, from every rank's own_gradient_: the same bits on any number of ranks.
  double global_norm();
  void update(const kernels::AdamWStep& hyper, std::span<float> parameters);
  void clear();

  Communicator* communicator_;
  SumMode mode_;
  kernels::Stream stream_;
  std::vector<Interval> intervals_;
  std::vector<Interval> block_intervals_;  // the same in blocks of kernels::kSumBlock
  std::vector<Piece> pieces_;
  kernels::Buffer<float> gradient_;          // [P]
  kernels::Buffer<std::int64_t> fixed_sum_;  // [P], reproducible mode
  kernels::Buffer<std::int64_t> own_fixed_;  // [own], reproducible mode
  kernels::Buffer<float> own_gradient_;      // [own]
  kernels::Buffer<float> first_moment_;      // [own]
  kernels::Buffer<float> second_moment_;     // [own]
  kernels::Buffer<double> block_squares_;    // [ceil(P / kSumBlock)]
  bool finite_ = true;
  std::int64_t ended_ = 0;     // micro-batches of this rank in this step
  std::int64_t expected_ = 0;  // micro-batches of all ranks, as end_micro_batch was told; 0: it was not
  std::int64_t steps_ = 0;
};

}  // namespace infalign::distributed
