#include "distributed/sharded_optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "distributed/optimizer_run.h"
#include "kernels/pages.h"
#include "kernels/reproducible_sum/reproducible_sum.h"

namespace infalign::distributed {
namespace {

using testing::fresh_state;
using testing::go_on;
using testing::Meddle;
using testing::OptimizerRun;
using testing::OptimizerState;
using testing::whole_run;

constexpr std::int64_t kUneven[] = {1, 1023, 1024, 5000, 9 * 1024 + 17};

/// The run on threads; every rank must end in the same state.
OptimizerState on_threads(int size, const OptimizerRun& run, const OptimizerState& from,
                          const Meddle& meddle = {}) {
  std::vector<OptimizerState> states(static_cast<std::size_t>(size));
  run_threads(size, [&](Communicator& ranks) {
    states[static_cast<std::size_t>(ranks.rank())] = go_on(ranks, run, from, meddle);
  });
  for (const OptimizerState& state : states) {
    EXPECT_EQ(state.parameters, states[0].parameters);
    EXPECT_EQ(state.copy, states[0].copy);
  }
  return states[0];
}

OptimizerState on_threads(int size, const OptimizerRun& run) {
  return on_threads(size, run, fresh_state(run));
}

/// AdamW as in the paper (decoupled decay) with clipping, in float64 and without any cleverness.
struct PlainState {
  std::vector<double> parameters, norms;
};

PlainState plain_adamw(const OptimizerRun& run) {
  const auto n = static_cast<std::size_t>(run.parameters);
  std::vector<double> m(n), v(n), gradient(n);
  std::vector<bool> decays(n);
  for (const Interval& interval : run.decayed_here())
    for (std::int64_t i = interval.begin; i < interval.end; ++i) decays[static_cast<std::size_t>(i)] = true;
  PlainState state;
  for (std::int64_t i = 0; i < run.parameters; ++i) state.parameters.push_back(run.start(i));
  const double beta1 = run.hyper.beta1, beta2 = run.hyper.beta2;
  for (int step = 0; step < run.steps; ++step) {
    double squares = 0;
    for (std::size_t i = 0; i < n; ++i) {
      gradient[i] = 0;
      for (std::int64_t batch = 0; batch < run.micro_batches; ++batch)
        gradient[i] += run.gradient(step, batch, static_cast<std::int64_t>(i));
      squares += gradient[i] * gradient[i];
    }
    state.norms.push_back(std::sqrt(squares));
    const double clipping = run.max_norm > 0 ? std::min(1.0, run.max_norm / (std::sqrt(squares) + 1e-6)) : 1;
    for (std::size_t i = 0; i < n; ++i) {
      const double g = gradient[i] * clipping;
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      const double corrected_m = m[i] / (1 - std::pow(beta1, step + 1));
      const double corrected_v = v[i] / (1 - std::pow(beta2, step + 1));
      const double rate = run.hyper.learning_rate;
      if (decays[i]) state.parameters[i] -= rate * run.hyper.weight_decay * state.parameters[i];
      state.parameters[i] -= rate * corrected_m / (std::sqrt(corrected_v) + run.hyper.epsilon);
    }
  }
  return state;
}

class BothModes : public ::testing::TestWithParam<SumMode> {};
INSTANTIATE_TEST_SUITE_P(Sums, BothModes, ::testing::Values(SumMode::kReproducible, SumMode::kFast),
                         [](const auto& tested) {
                           return tested.param == SumMode::kReproducible ? "Reproducible" : "Fast";
                         });

TEST_P(BothModes, FollowAPlainAdamW) {
  for (const int size : {1, 3}) {
    for (const std::int64_t n : kUneven) {
      const OptimizerRun run{.parameters = n, .mode = GetParam()};
      const OptimizerState actual = on_threads(size, run);
      const PlainState expected = plain_adamw(run);
      // A step moves a parameter by about the learning rate 0.01; float32 errs by less than 1e-6.
      for (std::size_t i = 0; i < expected.parameters.size(); ++i)
        ASSERT_NEAR(actual.parameters[i], expected.parameters[i], 1e-6) << "parameter " << i << " of " << n;
      for (std::size_t step = 0; step < expected.norms.size(); ++step)
        EXPECT_NEAR(actual.norms[step], expected.norms[step], 1e-6 * expected.norms[step]);
    }
  }
}

TEST(Reproducible, GivesTheSameBitsOnAnyNumberOfRanks) {
  for (const std::int64_t n : kUneven) {
    const OptimizerRun run{.parameters = n};
    const OptimizerState alone = on_threads(1, run);
    for (const int size : {2, 3, 4}) EXPECT_EQ(on_threads(size, run), alone) << n << " parameters, " << size;
  }
}

constexpr Sharding kStages[] = {Sharding::kNothing, Sharding::kOptimizer, Sharding::kGradients,
                                Sharding::kParameters};

TEST(Reproducible, GivesTheSameBitsInEveryStageOnAnyNumberOfRanks) {
  for (const std::int64_t n : kUneven) {
    const OptimizerState alone = on_threads(1, {.parameters = n});
    for (const Sharding stage : kStages) {
      for (const int size : {1, 2, 3, 4, 7}) {  // of 5 micro-batches: some have one more, some have none
        for (const bool in_layers : {false, true}) {
          const OptimizerRun run{.parameters = n, .sharding = stage, .in_layers = in_layers};
          EXPECT_EQ(on_threads(size, run), alone)
              << n << " parameters, stage " << static_cast<int>(stage) << ", " << size << " ranks";
        }
      }
    }
  }
}

TEST(Reproducible, GivesTheSameBitsWithACopyOfTheParametersInEachGroup) {
  for (const std::int64_t n : kUneven) {
    const OptimizerState alone = on_threads(1, {.parameters = n});
    for (const auto& [size, group] : {std::pair{2, 1}, {4, 2}, {6, 2}, {6, 3}, {3, 3}}) {
      const OptimizerRun run{
          .parameters = n, .sharding = Sharding::kParameters, .group = group, .in_layers = true};
      EXPECT_EQ(on_threads(size, run), alone) << n << " parameters, groups of " << group << " of " << size;
    }
  }
}

/// What passes are to read of a copy.
std::vector<float> rounded(const OptimizerRun& run, const OptimizerState& state) {
  std::vector<float> read;
  for (std::size_t i = 0; i < state.parameters.size(); ++i) {
    const auto number = static_cast<std::int64_t>(i);
    const auto step = static_cast<std::uint32_t>(state.steps);
    read.push_back(kernels::from_bfloat16(
        run.rounding_seed && step > 0
            ? kernels::to_bfloat16(
                  state.parameters[i],
                  kernels::rounding_bits(kernels::rounding_draw(*run.rounding_seed, step, number), number))
            : kernels::to_bfloat16(state.parameters[i])));
  }
  for (const Interval& vector : run.vectors_here())
    std::copy(state.parameters.begin() + vector.begin, state.parameters.begin() + vector.end,
              read.begin() + vector.begin);
  return read;
}

TEST(NarrowCopy, IsOfTheSameParametersInEveryStageOnAnyNumberOfRanks) {
  struct Ranks {
    int size, group;
  };
  for (const std::int64_t n : kUneven) {
    const OptimizerState plain = on_threads(1, {.parameters = n});
    for (const auto seed : {std::optional<std::uint64_t>(), std::optional<std::uint64_t>(5)}) {
      for (const Sharding stage : kStages) {
        for (const auto& [size, group] : {Ranks{1, 0}, {2, 0}, {3, 0}, {7, 0}, {4, 2}, {6, 3}}) {
          const OptimizerRun run{.parameters = n,
                                 .sharding = stage,
                                 .group = stage == Sharding::kParameters ? group : 0,
                                 .in_layers = true,
                                 .narrow = true,
                                 .rounding_seed = seed};
          OptimizerState expected = plain;
          expected.copy = rounded(run, plain);
          EXPECT_EQ(on_threads(size, run), expected)
              << n << " parameters, stage " << static_cast<int>(stage) << ", " << size << " ranks";
        }
      }
    }
  }
}

TEST(NarrowCopy, IsMadeAgainWithTheBitsOfTheStepBefore) {
  OptimizerRun run{.steps = 3, .narrow = true, .rounding_seed = 5};
  const OptimizerState before = on_threads(2, run);
  for (const int size : {1, 3}) EXPECT_EQ(on_threads(size, run, before), before);
  EXPECT_NE(before.copy, rounded({}, before)) << "rounding at random is not rounding to the nearest";
  const OptimizerState start = fresh_state(run);
  run.steps = 0;
  EXPECT_EQ(on_threads(2, run).copy, rounded({}, start)) << "what training starts from is not disturbed";
}

TEST(Fast, StaysWithinRoundingOfOneRankInEveryStage) {
  const OptimizerState alone = on_threads(1, {.mode = SumMode::kFast});
  for (const Sharding stage : kStages) {
    for (const int size : {1, 3, 4, 7}) {
      const OptimizerState shared =
          on_threads(size, {.mode = SumMode::kFast, .sharding = stage, .in_layers = true});
      for (std::size_t i = 0; i < alone.parameters.size(); ++i)
        ASSERT_NEAR(shared.parameters[i], alone.parameters[i], 1e-5) << static_cast<int>(stage);
    }
  }
}

TEST(Restore, GoesOnWithTheSameBitsInAnotherStageOnAnotherNumberOfRanks) {
  const OptimizerRun whole{.parameters = 9 * 1024 + 17, .steps = 6};
  const OptimizerState undisturbed = on_threads(2, whole);
  OptimizerState state = fresh_state(whole);
  OptimizerRun part = whole;
  struct Life {
    int size, until, stage;
  };
  for (const auto& [size, until, stage] : {Life{1, 1, 0}, {4, 3, 3}, {2, 4, 2}, {3, 5, 1}, {2, 6, 3}}) {
    part.steps = until;
    part.sharding = static_cast<Sharding>(stage);
    state = on_threads(size, part, state);
  }
  EXPECT_EQ(state, undisturbed);
}

TEST(Sharded, GradientsTakeMemoryWhileTheyAreInUse) {
#ifdef INFALIGN_SANITIZED
  GTEST_SKIP() << "a sanitizer's allocator touches the pages that it gives";
#endif
  constexpr std::int64_t kSize = std::int64_t{1} << 22;  // 16 MiB
  run_threads(2, [&](Communicator& ranks) {
    ShardedOptimizer optimizer(ranks, kSize, SumMode::kReproducible, {}, Sharding::kGradients, 1 << 16);
    optimizer.begin_step(2, 1);
    const auto gradient = optimizer.gradient();
    const auto resident = [&] { return kernels::resident_bytes(std::as_bytes(gradient)); };
    for (std::int64_t end = kSize; end > 0; end -= 1 << 16) {
      std::fill_n(gradient.begin() + end - (1 << 16), 1 << 16, 1.0f);
      optimizer.complete_from(end - (1 << 16));
      EXPECT_LE(resident(), 8 << 18);  // what waits for the courier, and what is in its hands
    }
    optimizer.end_micro_batch(2);
    std::vector<float> parameters(kSize);
    EXPECT_DOUBLE_EQ(optimizer.step({}, 0, parameters).gradient_norm, 2 * std::sqrt(double{kSize}));
    EXPECT_EQ(resident(), 0);
  });
}

TEST(Sharded, ARankThatFailsInTheMiddleFreesTheOthers) {
  for (const Sharding stage : {Sharding::kOptimizer, Sharding::kGradients}) {
    const auto fail = [&] {
      run_threads(3, [&](Communicator& ranks) {
        ShardedOptimizer optimizer(ranks, 9000, SumMode::kReproducible, {}, stage, 2048);
        optimizer.begin_step(6, 2);
        for (int batch = 0; batch < 2; ++batch) {
          optimizer.gradient()[8999] = 1;
          optimizer.complete_from(5000);
          if (ranks.rank() == 1 && batch == 1) throw std::range_error("the cause");
          optimizer.end_micro_batch(6);
        }
        std::vector<float> parameters(9000);
        optimizer.step({}, 0, parameters);
      });
    };
    EXPECT_THROW(fail(), std::range_error);
  }
}

TEST(Reproducible, IsTheSameWithoutLauncherAndOnThreads) {
  const OptimizerRun run;
  EXPECT_EQ(whole_run(*make_local(), run), on_threads(2, run));
}

TEST(Fast, StaysWithinRoundingOfOneRank) {
  const OptimizerRun run{.mode = SumMode::kFast};
  const OptimizerState alone = on_threads(1, run);
  const OptimizerState shared = on_threads(4, run);
  for (std::size_t i = 0; i < alone.parameters.size(); ++i)
    ASSERT_NEAR(shared.parameters[i], alone.parameters[i], 1e-5);
}

TEST(Restore, GoesOnWithTheSameBitsOnAnotherNumberOfRanks) {
  const OptimizerRun whole{.parameters = 9 * 1024 + 17, .steps = 6};
  const OptimizerState undisturbed = on_threads(2, whole);
  OptimizerState state = fresh_state(whole);
  OptimizerRun part = whole;
  for (const auto& [size, until] : {std::pair{1, 1}, {4, 3}, {2, 4}, {3, 6}}) {
    part.steps = until;
    state = on_threads(size, part, state);
  }
  EXPECT_EQ(state, undisturbed);
}

TEST_P(BothModes, DecayOnlyWhereTold) {
  OptimizerRun run{.parameters = 5000, .micro_batches = 3, .steps = 1, .mode = GetParam()};
  run.decayed = {{4096, 4097}, {10, 1030}};  // in any order, across the borders of shares
  const Meddle no_gradient = [](auto, auto, std::span<float> gradient) { std::ranges::fill(gradient, 0.0f); };
  const OptimizerState state = on_threads(4, run, fresh_state(run), no_gradient);
  for (std::int64_t i = 0; i < run.parameters; ++i) {
    const bool decays = i == 4096 || (i >= 10 && i < 1030);
    const float expected = decays ? run.start(i) * (1 - 0.01f * 0.1f) : run.start(i);
    ASSERT_FLOAT_EQ(state.parameters[static_cast<std::size_t>(i)], expected) << i;
  }
}

TEST_P(BothModes, ClipToTheGlobalNorm) {
  // 1024 * 9 entries of 2 * 0.5 have norm 96; after one step the first moment is (1 - beta1) * clipped
  // gradient.
  for (const auto& [max_norm, clipped] : {std::pair{0.0, 1.0}, {1000.0, 1.0}, {24.0, 0.25}}) {
    const OptimizerRun run{
        .parameters = 9 * 1024, .micro_batches = 2, .steps = 1, .mode = GetParam(), .max_norm = max_norm};
    const Meddle halves = [](auto, auto, std::span<float> gradient) { std::ranges::fill(gradient, 0.5f); };
    const OptimizerState state = on_threads(2, run, fresh_state(run), halves);
    EXPECT_DOUBLE_EQ(state.norms[0], 96);
    const double kept = (1 - static_cast<double>(run.hyper.beta1)) * clipped;
    for (const float moment : state.first_moment) ASSERT_NEAR(moment, kept, 1e-8);
  }
}

TEST_P(BothModes, SkipAStepThatIsNotFinite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    for (const std::int64_t victim : {0, 1, 4}) {  // the only, first and last micro-batch of a rank
      const OptimizerRun run{.mode = GetParam()};
      run_threads(3, [&](Communicator& ranks) {
        ShardedOptimizer optimizer(ranks, run.parameters, run.mode, {});
        std::vector<float> parameters = fresh_state(run).parameters;
        const Interval mine = shares(5, 3)[static_cast<std::size_t>(ranks.rank())];
        const auto one_step = [&](bool spoilt) {
          for (std::int64_t batch = mine.begin; batch < mine.end; ++batch) {
            for (float& entry : optimizer.gradient()) entry += 0.25f;
            if (spoilt && batch == victim) optimizer.gradient()[4321] += bad;
            optimizer.end_micro_batch(5);
          }
          return optimizer.step(run.hyper, 0, parameters);
        };
        const OptimizerResult skipped = one_step(true);
        EXPECT_FALSE(skipped.applied);
        EXPECT_FALSE(std::isfinite(skipped.gradient_norm));
        EXPECT_EQ(optimizer.steps(), 0);
        EXPECT_EQ(parameters, fresh_state(run).parameters);
        EXPECT_THAT(optimizer.first_moment(), ::testing::Each(0.0f));
        EXPECT_THAT(optimizer.second_moment(), ::testing::Each(0.0f));

        const OptimizerResult next = one_step(false);  // nothing is left of the bad one
        EXPECT_TRUE(next.applied);
        EXPECT_DOUBLE_EQ(next.gradient_norm, 1.25 * std::sqrt(5000.0));
        EXPECT_EQ(optimizer.steps(), 1);
      });
    }
  }
}

TEST(Reproducible, TakesWhatFixedPointCannotHoldForNotFinite) {
  const auto applied_with = [](float entry) {
    const auto local = make_local();
    ShardedOptimizer optimizer(*local, 10, SumMode::kReproducible, {});
    std::vector<float> parameters(10);
    for (int batch = 0; batch < 4; ++batch) {
      optimizer.gradient()[7] = entry;
      optimizer.end_micro_batch(4);
    }
    return optimizer.step({}, 0, parameters).applied;
  };
  EXPECT_TRUE(applied_with(0x1p17f - 1));  // four of 2^17 would be 2^19
  EXPECT_FALSE(applied_with(0x1p17f));
}

TEST(Fast, SkipsASumThatOverflows) {
  run_threads(2, [](Communicator& ranks) {
    ShardedOptimizer optimizer(ranks, 3000, SumMode::kFast, {});
    std::vector<float> parameters(3000, 1.0f);
    optimizer.gradient()[0] = std::numeric_limits<float>::max();
    optimizer.end_micro_batch(2);
    EXPECT_FALSE(optimizer.step({.learning_rate = 1}, 0, parameters).applied);
    EXPECT_THAT(parameters, ::testing::Each(1.0f));
  });
}

TEST_P(BothModes, ClearTheGradientBetweenSteps) {
  const auto local = make_local();
  ShardedOptimizer optimizer(*local, 3, GetParam(), {});
  std::vector<float> parameters(3);
  for (int step = 0; step < 2; ++step) {
    for (int batch = 0; batch < 2; ++batch) {
      optimizer.gradient()[1] += 1;
      optimizer.end_micro_batch(2);
    }
    EXPECT_DOUBLE_EQ(optimizer.step({}, 0, parameters).gradient_norm, 2);
    EXPECT_THAT(optimizer.gradient(), ::testing::Each(0.0f));
  }
}

TEST(Reproducible, ClearsTheGradientBetweenMicroBatches) {
  const auto local = make_local();
  ShardedOptimizer optimizer(*local, 3, SumMode::kReproducible, {});
  std::vector<float> parameters(3);
  optimizer.gradient()[1] = 1;
  optimizer.end_micro_batch(1);
  EXPECT_THAT(optimizer.gradient(), ::testing::Each(0.0f));
  optimizer.gradient()[1] = 5;  // never ended
  EXPECT_DOUBLE_EQ(optimizer.step({}, 0, parameters).gradient_norm, 1);
  EXPECT_THAT(optimizer.gradient(), ::testing::Each(0.0f));
}

TEST(ShardedOptimizer, NoticesALostMicroBatch) {
  EXPECT_THROW(run_threads(2,
                           [](Communicator& ranks) {
                             ShardedOptimizer optimizer(ranks, 3, SumMode::kReproducible, {});
                             std::vector<float> parameters(3);
                             if (ranks.root()) optimizer.end_micro_batch(2);
                             optimizer.step({}, 0, parameters);
                           }),
               std::logic_error);
}

TEST(ShardedOptimizer, RefusesWhatContradictsItself) {
  const auto local = make_local();
  const auto with = [&](std::vector<Interval> decayed) {
    return ShardedOptimizer(*local, 100, SumMode::kFast, std::move(decayed));
  };
  EXPECT_NO_THROW(with({{50, 100}, {0, 50}}));
  EXPECT_THROW(with({{0, 51}, {50, 100}}), std::invalid_argument);
  EXPECT_THROW(with({{90, 101}}), std::invalid_argument);
  EXPECT_THROW(with({{-1, 2}}), std::invalid_argument);
  EXPECT_THROW(with({{5, 4}}), std::invalid_argument);
  ShardedOptimizer optimizer = with({});
  std::vector<float> parameters(99);
  EXPECT_THROW(optimizer.step({}, 0, parameters), std::invalid_argument);
  optimizer.end_micro_batch(2);
  EXPECT_THROW(optimizer.end_micro_batch(3), std::logic_error);
}

TEST(ShardedOptimizer, RefusesACopyThatDoesNotFit) {
  const auto local = make_local();
  std::vector<kernels::Bfloat16> matrices(100);
  std::vector<float> vectors(10);
  const auto with = [&](std::size_t size, std::vector<Interval> at) {
    return ShardedOptimizer(*local, 100, SumMode::kFast, {}, Sharding::kOptimizer, kBucket, {}, nullptr, {},
                            NarrowCopy{std::span(matrices).first(size), vectors, std::move(at)});
  };
  EXPECT_NO_THROW(with(100, {{20, 30}}));
  EXPECT_THROW(with(99, {{20, 30}}), std::invalid_argument);
  EXPECT_THROW(with(100, {{20, 31}}), std::invalid_argument);
  EXPECT_THROW(with(100, {{20, 25}, {24, 29}}), std::invalid_argument);
}

TEST(ShardedOptimizer, RefusesMoreMicroBatchesThanItsShare) {
  const auto local = make_local();
  ShardedOptimizer optimizer(*local, 100, SumMode::kFast, {});
  optimizer.begin_step(1, 1);
  optimizer.end_micro_batch(1);
  EXPECT_THROW(optimizer.end_micro_batch(1), std::logic_error);
}

TEST(ShardedOptimizer, SharesAtBlocksOfTheNorm) {
  run_threads(3, [](Communicator& ranks) {
    const ShardedOptimizer optimizer(ranks, 5000, SumMode::kFast, {});
    EXPECT_EQ(optimizer.own(), optimizer.intervals()[static_cast<std::size_t>(ranks.rank())]);
    for (const Interval& interval : optimizer.intervals()) EXPECT_EQ(interval.begin % kernels::kSumBlock, 0);
  });
}

}  // namespace
}  // namespace infalign::distributed
