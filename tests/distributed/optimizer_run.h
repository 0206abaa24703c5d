// A small training run of the sharded optimizer with gradients that are a pure function of (step,
// micro-batch, index), for comparing runs that must agree: on threads (sharded_optimizer_test.cpp) and under
// mpirun (mpi_collectives.cpp).
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include "distributed/communicator.h"
#include "distributed/sharded_optimizer.h"
#include "kernels/bias/bias.h"

namespace infalign::distributed::testing {

/// A number in [-1, 1) that looks random (splitmix64's finaliser).
inline float scattered(std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  std::uint64_t x = a * 0x9E3779B97F4A7C15 + b * 0xBF58476D1CE4E5B9 + c * 0x94D049BB133111EB + 1;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  x ^= x >> 31;
  return static_cast<float>(static_cast<double>(x >> 11) * 0x1p-52 - 1);
}

struct OptimizerRun {
  std::int64_t parameters = 5000;
  std::int64_t micro_batches = 5;
  int steps = 4;
  SumMode mode = SumMode::kReproducible;
  Sharding sharding = Sharding::kOptimizer;
  int group = 0;           // in stage 3: ranks that hold one copy of the parameters; 0: all
  bool in_layers = false;  // told of micro-batches and of layers of the gradient as they are complete
  double max_norm = 20;    // below the norm of most of these gradients
  kernels::AdamWStep hyper{.learning_rate = 0.01f, .weight_decay = 0.1f};
  std::vector<Interval> decayed{{0, 700}, {1500, 1501}, {2047, 4099}};
  bool narrow = false;  // passes read a copy in bfloat16
  std::optional<std::uint64_t> rounding_seed = std::nullopt;
  std::vector<Interval> vectors{{5, 6}, {690, 1100}, {2040, 2050}, {3070, 4990}};  // of the copy

  float gradient(std::int64_t step, std::int64_t micro_batch, std::int64_t i) const {
    const float spread = std::exp2(static_cast<float>(i % 24) - 20);  // entries of very different size
    return spread * scattered(static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(micro_batch),
                              static_cast<std::uint64_t>(i));
  }
  float start(std::int64_t i) const { return scattered(99, 99, static_cast<std::uint64_t>(i)); }

  std::vector<Interval> decayed_here() const { return here(decayed); }
  std::vector<Interval> vectors_here() const { return here(vectors); }

 private:
  std::vector<Interval> here(const std::vector<Interval>& intervals) const {
    std::vector<Interval> result;
    for (const Interval& interval : intervals)
      if (interval.end <= parameters) result.push_back(interval);
    return result;
  }
};

inline constexpr std::int64_t kLayer = 1500;

/// Layers of a gradient, counted from its end, which take turns in two slots.
inline std::vector<GradientPart> gradient_parts(std::int64_t parameters) {
  std::vector<GradientPart> parts;
  for (std::int64_t end = parameters; end > 0; end -= std::min(end, kLayer))
    parts.insert(parts.begin(), {{end - std::min(end, kLayer), end}, parts.size() % 2});
  return parts;
}

/// What a run leaves: everything whole, as a checkpoint would hold it.
struct OptimizerState {
  std::vector<float> parameters, first_moment, second_moment;
  std::vector<float> copy;  // what passes read, if not the parameters
  std::vector<double> norms;
  std::int64_t steps = 0;
  bool operator==(const OptimizerState&) const = default;
};

inline OptimizerState fresh_state(const OptimizerRun& run) {
  OptimizerState state;
  for (std::int64_t i = 0; i < run.parameters; ++i) state.parameters.push_back(run.start(i));
  state.first_moment.assign(state.parameters.size(), 0);
  state.second_moment.assign(state.parameters.size(), 0);
  return state;
}

/// May change gradient() of a micro-batch before it is added.
using Meddle = std::function<void(std::int64_t step, std::int64_t micro_batch, std::span<float> gradient)>;

/// What passes read of a copy, whole.
inline std::vector<float> read_copy(const ShardGroups& groups, const OptimizerRun& run, const Interval& read,
                                    const kernels::Stream& on,
                                    const kernels::Buffer<kernels::Bfloat16>& matrices,
                                    const kernels::Buffer<float>& vectors) {
  std::vector<kernels::Bfloat16> narrow(matrices.size());
  kernels::download<kernels::Bfloat16>(on, matrices.data(), narrow);
  std::vector<float> copy(static_cast<std::size_t>(run.parameters)), of_vectors(vectors.size());
  for (std::size_t i = 0; i < narrow.size(); ++i)
    copy[static_cast<std::size_t>(read.begin) + i] = kernels::from_bfloat16(narrow[i]);
  if (run.sharding == Sharding::kParameters)
    groups.group().all_gather(std::span(copy), groups.shares(run.parameters));
  kernels::download<float>(on, vectors.data(), of_vectors);
  auto from = of_vectors.begin();
  for (const Interval& interval : run.vectors_here()) {
    std::copy_n(from, interval.size(), copy.begin() + interval.begin);
    from += interval.size();
  }
  return copy;
}

/// Goes on from `state` to `run.steps` steps in all, with contiguous shares of micro-batches, and gives back
/// the same on all ranks. A rank begins with its own part of what is not replicated, and is wrong elsewhere.
inline OptimizerState go_on(Communicator& ranks, const OptimizerRun& run, OptimizerState state,
                            const Meddle& meddle = {}, Place place = {}) {
  constexpr std::int64_t kSmallBucket = 2048;
  const ShardGroups groups(ranks, run.group);
  std::unique_ptr<DeviceCollectives> of_owners, of_copies;
  if (place.on.device() == kernels::Device::kCuda && groups.copies() != nullptr) {
    constexpr std::chrono::seconds kLimit(60);
    place.collectives = (of_owners = make_nccl(groups.owners(), kLimit)).get();
    place.of_copies = (of_copies = make_nccl(*groups.copies(), kLimit)).get();
  }
  const auto read = run.sharding == Sharding::kParameters
                        ? groups.shares(run.parameters)[static_cast<std::size_t>(groups.group().rank())]
                        : Interval{0, run.parameters};
  kernels::Buffer<kernels::Bfloat16> matrices(place.on, static_cast<std::size_t>(read.size()));
  std::int64_t in_vectors = 0;
  for (const Interval& interval : run.vectors_here()) in_vectors += interval.size();
  kernels::Buffer<float> vectors(place.on, static_cast<std::size_t>(in_vectors));
  const NarrowCopy narrow_copy{matrices.span(), vectors.span(), run.vectors_here(), run.rounding_seed};
  ShardedOptimizer optimizer(groups.owners(), run.parameters, run.mode, run.decayed_here(), run.sharding,
                             kSmallBucket, place, groups.copies(),
                             run.in_layers ? gradient_parts(run.parameters) : std::vector<GradientPart>(),
                             run.narrow ? std::optional(narrow_copy) : std::nullopt);
  const Interval own = optimizer.own(), held = optimizer.held(), kept = optimizer.held_parameters();
  const auto part = [](std::vector<float>& values, const Interval& interval) {
    return std::span(values).subspan(static_cast<std::size_t>(interval.begin),
                                     static_cast<std::size_t>(interval.size()));
  };
  kernels::upload<float>(place.on, part(state.first_moment, held), optimizer.first_moment().data());
  kernels::upload<float>(place.on, part(state.second_moment, held), optimizer.second_moment().data());
  kernels::Buffer<float> parameters(place.on, static_cast<std::size_t>(kept.size()));
  kernels::upload<float>(place.on, part(state.parameters, kept), parameters.data());
  optimizer.set_steps(state.steps);
  if (run.narrow) optimizer.publish(parameters.span());
  const bool told = run.in_layers || run.sharding >= Sharding::kGradients;
  const Interval mine = shares(run.micro_batches, ranks.size())[static_cast<std::size_t>(ranks.rank())];
  for (std::int64_t step = state.steps; step < run.steps; ++step) {
    if (told) optimizer.begin_step(run.micro_batches, mine.size());
    for (std::int64_t micro_batch = mine.begin; micro_batch < mine.end; ++micro_batch) {
      const std::int64_t layer = run.in_layers ? kLayer : run.parameters;
      for (std::int64_t end = run.parameters; end > 0; end -= std::min(end, layer)) {  // backwards
        const std::int64_t begin = end - std::min(end, layer);
        std::vector<float> of_layer(static_cast<std::size_t>(end - begin));
        for (std::int64_t i = begin; i < end; ++i)
          of_layer[static_cast<std::size_t>(i - begin)] = run.gradient(step, micro_batch, i);
        const kernels::Mirror<float> added(place.on,
                                           of_layer);  // as a pass adds it: the CPU waits for nothing
        kernels::bias_forward(place.on, 1, end - begin, added.data(), optimizer.gradient_at(begin));
        if (meddle) meddle(step, micro_batch, optimizer.gradient());
        if (run.in_layers) optimizer.complete_from(begin);
      }
      optimizer.end_micro_batch(run.micro_batches);
    }
    double one = 1;  // ranks meet elsewhere too, before the sum is done
    ranks.all_reduce_max(std::span(&one, 1));
    state.norms.push_back(optimizer.step(run.hyper, run.max_norm, parameters.span()).gradient_norm);
  }
  std::ranges::fill(state.parameters, NAN);
  kernels::download<float>(place.on, parameters.data(), part(state.parameters, kept));
  state.steps = optimizer.steps();
  const auto whole = [&](std::span<const float> values, std::int64_t begin) {
    std::vector<float> of_rank(static_cast<std::size_t>(own.size()));
    kernels::download<float>(place.on, values.data() + own.begin - begin, of_rank);
    return all_gather_concatenated(groups.owners(), std::span<const float>(of_rank));
  };
  if (run.narrow) {
    state.parameters = whole(parameters.span(), kept.begin);
    state.copy = read_copy(groups, run, read, place.on, matrices, vectors);
  } else if (run.sharding == Sharding::kParameters) {  // every copy is of the same values
    const auto shares = groups.shares(run.parameters);
    std::vector<float> copy = state.parameters;
    groups.group().all_gather(std::span(copy), shares);
    state.parameters = whole(parameters.span(), kept.begin);
    if (copy != state.parameters) throw std::logic_error("a copy of the parameters is not as the others");
  }
  state.first_moment = whole(optimizer.first_moment(), held.begin);
  state.second_moment = whole(optimizer.second_moment(), held.begin);
  return state;
}

inline OptimizerState whole_run(Communicator& ranks, const OptimizerRun& run, const Place& place = {}) {
  return go_on(ranks, run, fresh_state(run), {}, place);
}

}  // namespace infalign::distributed::testing
