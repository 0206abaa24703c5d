// The sum of a step's gradients over micro-batches and ranks, each rank left with its own interval of it.
// The flat gradient is cut into buckets of one size, from the end backwards, as the backward pass completes
// it; a bucket is added up and reduced by a courier while the pass goes on in the layers below.
//
// Stages 0 and 1 add a rank's micro-batches up where they are and reduce once a step, while the last of them
// is on its backward pass (after it, where all is one bucket). Stages 2 and 3 reduce every micro-batch, so
// that no rank ever holds more than a few buckets of gradient beside its own interval of the sum: memory for
// communication. Ranks then go in rounds, as many as the rank with most micro-batches has; a rank with fewer
// gives zeros in the rounds it misses. So all ranks do the same collectives in the same order, whatever the
// data.
//
// On the CPU the gradient is one flat buffer, whose pages the system gives while they are in use. On a GPU,
// in stages 2 and 3, it is held part by part, a layer being one: parts take turns in a few slots of memory,
// and what computes a part waits on the device until the sums of the part before it in its slot are done.
//
// In reproducible mode a bucket is summed in 64-bit fixed point, which is exact, so that neither the stage
// nor the number of ranks changes a bit; in fast mode in float32.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "distributed/communicator.h"
#include "distributed/exchange.h"
#include "kernels/device.h"

namespace infalign::distributed {

enum class SumMode { kReproducible, kFast };

/// What is divided among ranks (ZeRO; Rajbhandari et al. 2020): each stage that of the one before, and more.
enum class Sharding { kNothing, kOptimizer, kGradients, kParameters };

/// Values in a bucket.
inline constexpr std::int64_t kBucket = std::int64_t{1} << 20;

/// A part of the gradient that is in memory while it is computed and summed, in turn with others of its slot.
struct GradientPart {
  Interval interval;
  std::size_t slot = 0;
};

class GradientSum {
 public:
  /// Bytes on the rank with the largest share.
  struct Bytes {
    std::int64_t gradient = 0;  // of a micro-batch (stages 0 and 1 in fast mode: of all)
    std::int64_t sums = 0;      // over micro-batches, and the own interval of the result
    std::int64_t exchange = 0;  // what MPI takes to reduce a bucket, where there are several ranks
  };
  /// With `parts` as it is held on a GPU.
  static Bytes bytes(std::int64_t parameters, int ranks, SumMode mode, Sharding sharding,
                     std::span<const GradientPart> parts = {});

  /// Of P = `parameters` values, of which each rank gets its interval of `intervals`. `bucket` is the same on
  /// all ranks. All memory is that of `place`. `parts` follow one another from 0 to P; only stages 2 and 3 on
  /// a GPU heed them, and take all for one part where there are none. A micro-batch computes them from the
  /// last to the first, but for those whose slot they have for themselves. Collective.
  GradientSum(Communicator& communicator, std::int64_t parameters, std::vector<Interval> intervals,
              SumMode mode, Sharding sharding, std::int64_t bucket = kBucket, const Place& place = {},
              std::vector<GradientPart> parts = {});

  /// Where a micro-batch's gradient is added up, [P], zero at its beginning. Waits for what is still under
  /// way from the one before. Errors: std::logic_error where it is held in parts.
  std::span<float> gradient();
  /// Where that of the values from `offset` to the end of their part is.
  float* gradient_at(std::int64_t offset);

  /// The step that begins has so many micro-batches over all ranks, of which this one does `mine`: as many as
  /// any other, or one more or fewer. Needed before the first of them by stages 2 and 3 on several ranks;
  /// lets the others reduce while the last one is under way.
  void begin_step(std::int64_t micro_batches, std::int64_t mine);

  /// The micro-batch at hand will add nothing more to gradient()[offset, P).
  void complete_from(std::int64_t offset);

  /// The micro-batch at hand is complete. `micro_batches`: as in begin_step. Errors: std::logic_error where
  /// that is contradicted, and for more than this rank's share; PeerFailed and the like from the courier.
  void end_micro_batch(std::int64_t micro_batches);

  /// The rounds that this rank missed, and the end of all that is under way. Returns whether every
  /// micro-batch of every rank could be added. Collective. Errors: std::logic_error on all ranks if more or
  /// fewer micro-batches ended, over all ranks, than begin_step or end_micro_batch was told.
  bool finish();
  /// After finish: this rank's interval of the sum.
  std::span<const float> own();
  /// To the beginning of a step.
  void clear();

  /// The way to the other ranks, for what else they exchange when no sum is under way.
  Exchange& exchange() { return *exchange_; }
  const Exchange& exchange() const { return *exchange_; }

 private:
  /// Memory in which parts of the gradient take turns.
  struct Slot {
    kernels::Buffer<float> values;
    kernels::Event summed;                // of the part before
    const GradientPart* holds = nullptr;  // the part that is being computed
  };

  bool every_micro_batch() const { return sharding_ >= Sharding::kGradients; }
  bool reduces_this_one() const {
    return every_micro_batch() || (exchange_->overlaps() && share_ > 0 && ended_ + 1 == share_);
  }
  Interval own_interval() const;
  const GradientPart& part_with(std::int64_t offset) const;
  /// The bucket that ends at `end`; it lies in one part.
  Interval bucket_below(std::int64_t end) const;
  /// Of a bucket, in its slot.
  std::span<float> gradient_of(Interval bucket);
  /// Makes gradients zero, and gives their memory back where that can be done.
  void forget(const kernels::Stream& on, std::span<float> gradient) const;
  /// Hands over the buckets above `offset` that were not.
  void send_from(std::int64_t offset, bool reduces, bool has_gradient);
  void send_round_without_gradient();
  /// A job: the work on a bucket.
  void add(Interval bucket, bool reduces, bool has_gradient, std::int64_t terms);
  /// Adds this rank's part of the sum over ranks of `sums`, a bucket's, to what it has.
  template <class T>
  void reduce(Interval bucket, std::span<T> sums);
  /// The part of each rank's interval that lies in a bucket, counted from the bucket's begin.
  std::vector<Interval> parts_of(Interval bucket) const;

  Communicator* communicator_;
  std::int64_t parameters_;
  std::vector<Interval> intervals_;
  SumMode mode_;
  Sharding sharding_;
  std::int64_t bucket_;
  kernels::Stream on_;                       // of computing
  std::vector<GradientPart> parts_;          // at least one
  std::vector<Slot> slots_;                  // [as parts_ name them]
  kernels::Buffer<std::int64_t> fixed_sum_;  // reproducible: [P] in stages 0 and 1, else [own]
  kernels::Buffer<float> own_;               // [own]
  // Of the bucket at hand:
  kernels::Buffer<std::int64_t> fixed_bucket_, fixed_part_;  // [bucket]
  kernels::Buffer<float> float_part_, zeros_;                // [bucket]

  kernels::Buffer<std::uint32_t> refused_;  // [1]; not 0: a value was not finite or beyond fixed point

  bool begun_ = false;                  // whether the gradient of this micro-batch was asked for
  std::int64_t next_ = 0;               // buckets of this micro-batch above here are handed over
  std::int64_t ended_ = 0;              // micro-batches of this rank in this step
  std::int64_t expected_ = 0;           // micro-batches of all ranks; 0: not told
  std::int64_t share_ = 0;              // of them this rank's; 0: not told
  std::int64_t rounds_ = 0;             // reductions of the whole that this rank has taken part in
  std::unique_ptr<Exchange> exchange_;  // last: its jobs end before what they work on
};

}  // namespace infalign::distributed
