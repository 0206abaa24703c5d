// One optimizer step over all ranks: gradients of micro-batches are summed (gradient_sum.h), each rank
// updates its own interval of parameters and moments, and parameters are gathered again (ZeRO; Rajbhandari et
// al. 2020). How much of this is divided among the ranks is the stage of sharding; in reproducible mode every
// stage on any number of ranks gives the same bits. The gradient is what the caller makes it, a sum or an
// average; nothing is rescaled here. What passes read are the parameters themselves, in float32, or a copy of
// them in bfloat16: then of the parameters, too, each rank has its own interval only.
//
// Memory in bytes for each parameter, on each of R ranks (the parameters and their copy are the caller's),
// beside a few buckets:
//   stage                                  reproducible       fast
//   0  nothing: moments on every rank      20 + 4 / R         12 + 4 / R
//   1  optimizer                           12 + 12 / R         4 + 12 / R
//   2  gradients, 3 parameters                  20 / R             12 / R
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "distributed/communicator.h"
#include "distributed/gradient_sum.h"
#include "distributed/shard_groups.h"
#include "kernels/adamw/adamw.h"
#include "kernels/device.h"
#include "kernels/linear/bfloat16.h"

namespace infalign::distributed {

struct OptimizerResult {
  double gradient_norm = 0;  // before clipping; not finite where the step was not applied
  bool applied = true;       // false: a gradient was not finite (or beyond fixed point), nothing was changed
};

/// Memory of the optimizer on the rank with the largest share.
struct OptimizerBytes {
  std::int64_t gradient = 0;  // of a micro-batch (fast mode, stages 0 and 1: of all)
  std::int64_t sums = 0;      // over micro-batches, and the own interval of the result
  std::int64_t moments = 0;
  std::int64_t exchange = 0;  // MPI's own, while it reduces, where there are several ranks
};

/// What passes read in the place of the parameters that are trained: most of them rounded to bfloat16, the
/// vectors among them in float32. The memory is the caller's.
struct NarrowCopy {
  std::span<kernels::Bfloat16> matrices;  // [passes_read().size()]; where vectors would be nothing is meant
  std::span<float> vectors;               // of all ranks, one after another
  std::vector<Interval> vectors_at;       // where those are in the flat buffer, in order
  std::optional<std::uint64_t> rounding_seed = std::nullopt;  // rounds at random; none: to the nearest
};

class ShardedOptimizer {
 public:
  /// `parts`: as in GradientSum.
  static OptimizerBytes bytes(std::int64_t parameters, int ranks, SumMode mode,
                              Sharding sharding = Sharding::kOptimizer,
                              std::span<const GradientPart> parts = {});

  /// For a flat buffer of `parameters` values, P in the shapes below. `decayed` are the intervals to which
  /// weight decay applies. All memory, that of parameters too, is that of `place`. In stage 3 `copies` are
  /// the ranks that hold the same part of the parameters, and follow one another in `communicator`; null
  /// where each holds its own interval (ShardGroups). `parts`: as in GradientSum. `copy`: what passes read,
  /// if not the parameters; to be published before the first pass. Errors: std::invalid_argument if the
  /// intervals overlap or leave the buffer; as GradientSum.
  ShardedOptimizer(Communicator& communicator, std::int64_t parameters, SumMode mode,
                   std::vector<Interval> decayed, Sharding sharding = Sharding::kOptimizer,
                   std::int64_t bucket = kBucket, const Place& place = {}, Communicator* copies = nullptr,
                   std::vector<GradientPart> parts = {}, std::optional<NarrowCopy> copy = std::nullopt);

  /// Where a micro-batch's gradient is accumulated, [P], or from an offset on: added to what is there. Zeroed
  /// by step, and in reproducible mode by end_micro_batch. As GradientSum has them.
  std::span<float> gradient() { return sum_.gradient(); }
  float* gradient_at(std::int64_t offset) { return sum_.gradient_at(offset); }

  /// As GradientSum has them. In reproducible mode a gradient's entries are to stay below
  /// 2^19 / micro_batches in magnitude; one beyond counts as not finite.
  void begin_step(std::int64_t micro_batches, std::int64_t mine) { sum_.begin_step(micro_batches, mine); }
  void complete_from(std::int64_t offset) { sum_.complete_from(offset); }
  void end_micro_batch(std::int64_t micro_batches) { sum_.end_micro_batch(micro_batches); }

  /// Reduces, clips to global norm `max_norm` (0: no clipping), applies AdamW to `parameters`, those of
  /// held_parameters(), and gathers what passes read on all ranks. What is computed after it comes after the
  /// update on all ranks, too. Of `hyper`, step and gradient_scale are set here. All ranks get the same
  /// result. In both modes the sum starts again at zero, whether applied or not. Errors: as
  /// GradientSum::finish.
  OptimizerResult step(kernels::AdamWStep hyper, double max_norm, std::span<float> parameters);

  /// Makes the copy, on all ranks, of parameters that no step here has made: those at the start, or of a
  /// checkpoint. Rounded at random to the bits that the step before had. Collective.
  void publish(std::span<const float> parameters);

  /// The ranks' intervals of [0, P), borders at multiples of kernels::kSumBlock.
  std::span<const Interval> intervals() const { return intervals_; }
  Interval own() const;
  /// Of the moments this rank has those of held(): all in stage 0, else its own; to be stored and restored.
  Interval held() const;
  /// What passes read of the parameters on this rank: all, in stage 3 its part; on one of several GPUs the
  /// ranks that hold the same have collectives of their own, `place.of_copies`.
  Interval passes_read() const;
  /// Of the float32 parameters this rank has the same, or, where passes read a copy, held().
  Interval held_parameters() const { return copy_ ? held() : passes_read(); }
  std::span<float> first_moment() { return first_moment_.span(); }
  std::span<float> second_moment() { return second_moment_.span(); }
  /// Optimizer steps applied so far (bias correction).
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }

  /// Seconds so far: that computing waited for gradients and parameters of other ranks, and that these were
  /// under way; as Exchange has them.
  double exposed_seconds() const { return sum_.exchange().exposed_seconds(); }
  double communication_seconds() const { return sum_.exchange().exchange_seconds(); }

 private:
  /// A piece of the held interval in which all parameters decay, or none.
  struct Piece {
    Interval interval;
    bool decays;
  };
  /// What of the held interval goes to one place of the copy.
  struct Copied {
    Interval interval;
    std::optional<std::int64_t> vectors;  // there, from here on; none: to the matrices
  };

  /// What of the copy each rank writes, and where.
  void divide_copy();
  /// Of the whole gradient, from every rank's own_gradient_: the same bits on any number of ranks.
  double global_norm();
  /// The update of what is held, and of all parameters on all ranks.
  void apply(const kernels::AdamWStep& hyper, std::span<float> parameters);
  /// What passes read, from the intervals of it that ranks have written.
  template <class T>
  void gather(std::span<T> values);
  /// What the ranks that hold the same part have written of it.
  template <class T>
  void gather_held(std::span<T> values);
  void update(const kernels::AdamWStep& hyper, std::span<const float> gradient, std::span<float> parameters);

  Communicator* communicator_;
  Communicator* copies_;  // null: there are none
  DeviceCollectives* of_copies_;
  Sharding sharding_;
  kernels::Stream on_;
  std::vector<Interval> intervals_;
  std::vector<Interval> block_intervals_;  // the same in blocks of kernels::kSumBlock
  std::vector<Piece> pieces_;
  std::optional<NarrowCopy> copy_;
  std::vector<Copied> copied_;
  std::vector<Interval> vector_intervals_;  // the ranks' of copy_->vectors
  GradientSum sum_;
  kernels::Buffer<float> first_moment_;    // [held]
  kernels::Buffer<float> second_moment_;   // [held]
  kernels::Buffer<double> block_squares_;  // [ceil(P / kSumBlock)], on the CPU
  std::int64_t steps_ = 0;
};

}  // namespace infalign::distributed
