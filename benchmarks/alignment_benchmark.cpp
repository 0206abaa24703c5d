// What alignment costs beside the model: calibrating and transforming a reward, leave-one-out rewards, and
// the pooled sketch. Baselines, measured in the same run: std::lower_bound in the same tables for
// calibration, the sort of the same samples for leave-one-out rewards, the sort of all rewards for the
// sketch. Times are of one core.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <functional>
#include <random>
#include <span>
#include <vector>

#include "core/alignment/calibration.h"
#include "core/alignment/leave_one_out.h"
#include "core/alignment/sketch.h"
#include "core/alignment/transform.h"

namespace {

using namespace infalign::alignment;  // NOLINT(google-build-using-namespace): a program of this room alone

constexpr std::int64_t kRollouts = 256, kSamples = 64, kPrompts = 15'625;  // a million rewards

std::vector<float> normal_rewards(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> rewards(count);
  for (float& reward : rewards) reward = normal(engine);
  return rewards;
}

/// Seconds of CPU time, the best of `repetitions`.
double best_of(int repetitions, const std::function<void()>& work) {
  double best = 1e300;
  for (int i = 0; i < repetitions; ++i) {
    const std::clock_t start = std::clock();
    work();
    best = std::min(best, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  return best;
}

/// The time for each of `items` of an iteration, and the speed as a multiple of the baseline's, which takes
/// `baseline` seconds an iteration.
void report(benchmark::State& state, std::size_t items, double baseline, const char* baseline_name) {
  using benchmark::Counter;
  const auto iterations = static_cast<double>(state.iterations());
  state.counters["each"] =
      Counter(iterations * static_cast<double>(items), Counter::kIsRate | Counter::kInvert);
  state.counters[baseline_name] = Counter(iterations * baseline, Counter::kIsRate);
}

struct Prompts {
  std::vector<float> tables = normal_rewards(kPrompts * kRollouts, 1);
  std::vector<float> rewards = normal_rewards(kPrompts * kSamples, 2);

  Prompts() {
    for (auto row = tables.begin(); row != tables.end(); row += kRollouts) std::sort(row, row + kRollouts);
  }
  double lower_bound_seconds() const {
    return best_of(5, [&] {
      for (std::size_t i = 0; i < rewards.size(); ++i) {
        const auto row = tables.begin() + static_cast<std::ptrdiff_t>(i) / kSamples * kRollouts;
        benchmark::DoNotOptimize(std::lower_bound(row, row + kRollouts, rewards[i]));
      }
    });
  }
};

void calibrate(benchmark::State& state, CalibrationMode mode, TransformKind kind) {
  static const Prompts prompts;
  static const double baseline = prompts.lower_bound_seconds();
  RewardSketch pooled;
  pooled.add(prompts.tables);
  const Calibration calibration(mode, prompts.tables, kRollouts, pooled);
  const auto transform =
      make_transform({.kind = kind, .rollouts = kRollouts}, make_procedure("best_of_n", 4), 0.05);
  for (auto iteration : state) {
    double sum = 0;
    for (std::size_t i = 0; i < prompts.rewards.size(); ++i)
      sum += transform(calibration(static_cast<std::int64_t>(i) / kSamples, prompts.rewards[i]));
    benchmark::DoNotOptimize(sum);
  }
  report(state, prompts.rewards.size(), baseline, "of_lower_bound");
}
BENCHMARK_CAPTURE(calibrate, prompt_identity, CalibrationMode::kPrompt, TransformKind::kIdentity);
BENCHMARK_CAPTURE(calibrate, prompt_exponential, CalibrationMode::kPrompt, TransformKind::kExponential);
BENCHMARK_CAPTURE(calibrate, prompt_optimal, CalibrationMode::kPrompt, TransformKind::kOptimal);
BENCHMARK_CAPTURE(calibrate, hierarchical_optimal, CalibrationMode::kHierarchical, TransformKind::kOptimal);

void leave_one_out(benchmark::State& state, const char* name, std::int64_t n) {
  constexpr std::size_t kGroups = 64;
  const std::vector<float> rewards = normal_rewards(kGroups * kSamples, 3);
  std::vector<double> values(rewards.size());
  std::vector<std::int64_t> answers(rewards.size());
  for (std::size_t i = 0; i < rewards.size(); ++i) {
    values[i] = 1 / (1 + std::exp(-rewards[i]));
    answers[i] = static_cast<std::int64_t>(i * i % 7);
  }
  const double sorted = best_of(5, [&] {
    auto copy = rewards;
    for (auto row = copy.begin(); row != copy.end(); row += kSamples) std::sort(row, row + kSamples);
    benchmark::DoNotOptimize(copy.data());
  });
  const LeaveOneOut leave_one_out(make_procedure(name, n), kSamples);
  for (auto iteration : state) {
    for (std::size_t at = 0; at < rewards.size(); at += kSamples) {
      const Candidates samples{{&rewards[at], kSamples}, {&answers[at], kSamples}};
      benchmark::DoNotOptimize(leave_one_out.rewards(samples, std::span(values).subspan(at, kSamples)));
    }
  }
  report(state, rewards.size(), sorted, "of_sort");
}
BENCHMARK_CAPTURE(leave_one_out, best_of_4, "best_of_n", 4);
BENCHMARK_CAPTURE(leave_one_out, median_of_5, "median_of_n", 5);
BENCHMARK_CAPTURE(leave_one_out, majority_of_4_by_4096_draws, "majority_vote", 4)->Iterations(3);

const std::vector<float>& many_rewards() {
  static const std::vector<float> rewards = normal_rewards(10'000'000, 4);
  return rewards;
}

double sort_seconds() {
  static const double seconds = best_of(1, [] {
    auto copy = many_rewards();
    std::sort(copy.begin(), copy.end());
    benchmark::DoNotOptimize(copy.data());
  });
  return seconds;
}

void sketch(benchmark::State& state) {
  for (auto iteration : state) {
    RewardSketch pooled;
    pooled.add(many_rewards());
    benchmark::DoNotOptimize(pooled.counts().data());
  }
  report(state, many_rewards().size(), sort_seconds(), "of_sort");
}
BENCHMARK(sketch);

void refinement(benchmark::State& state) {
  RewardSketch pooled;
  pooled.add(many_rewards());
  const std::vector<double> levels{0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99};
  for (auto iteration : state) {
    QuantileRefinement exact(pooled, levels);
    exact.add(many_rewards());
    benchmark::DoNotOptimize(exact.quantiles());
  }
  report(state, many_rewards().size(), sort_seconds(), "of_sort");
}
BENCHMARK(refinement);

}  // namespace

BENCHMARK_MAIN();
