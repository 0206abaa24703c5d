// How each cost grows: the time of one piece of work at doubling sizes, and the exponent that fits it. Prints
// a Markdown table. Times are CPU seconds of one thread, the best of several, so that a busy machine changes
// them little; exponents are least-squares slopes of log time against log size over all sizes, and over the
// larger half, where fixed costs have faded.
//
//     OMP_NUM_THREADS=1 build/benchmark/benchmarks/growth
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/alignment/calibration.h"
#include "core/alignment/estimators.h"
#include "core/alignment/leave_one_out.h"
#include "core/alignment/sketch.h"
#include "core/alignment/theory.h"
#include "core/model/generation.h"
#include "core/model/transformer.h"

namespace {

using namespace infalign;

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

/// CPU seconds of one call, the best of five batches of calls of at least 20 ms.
double seconds_of(const std::function<void()>& work) {
  work();
  double best = 1e300;
  for (int batch = 0; batch < 5; ++batch) {
    std::int64_t calls = 0;
    const double start = cpu_seconds();
    double taken = 0;
    do {
      work();
      ++calls;
      taken = cpu_seconds() - start;
    } while (taken < 0.02);
    best = std::min(best, taken / static_cast<double>(calls));
  }
  return best;
}

double slope(std::span<const double> x, std::span<const double> y) {
  const auto n = static_cast<double>(x.size());
  double mx = 0, my = 0, xy = 0, xx = 0;
  for (std::size_t i = 0; i < x.size(); ++i) mx += std::log(x[i]) / n, my += std::log(y[i]) / n;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xy += (std::log(x[i]) - mx) * (std::log(y[i]) - my);
    xx += (std::log(x[i]) - mx) * (std::log(x[i]) - mx);
  }
  return xy / xx;
}

/// A row of the table. `work(size)` makes what is timed; `expected` says how it has to grow.
void row(const char* what, const char* with, const char* expected, const std::vector<std::int64_t>& sizes,
         const std::function<std::function<void()>(std::int64_t)>& work) {
  std::vector<double> x, y;
  for (const auto size : sizes) {
    x.push_back(static_cast<double>(size));
    y.push_back(seconds_of(work(size)));
  }
  const std::size_t half = x.size() / 2;
  std::printf("| %s | %s, %lld to %lld | %.3g to %.3g ms | %.2f | %.2f | %s |\n", what, with,
              static_cast<long long>(sizes.front()), static_cast<long long>(sizes.back()), 1e3 * y.front(),
              1e3 * y.back(), slope(x, y), slope(std::span(x).subspan(half), std::span(y).subspan(half)),
              expected);
  std::fflush(stdout);
}

std::vector<float> normal(std::size_t count) {
  std::mt19937_64 engine(count);
  std::normal_distribution<float> distribution;
  std::vector<float> values(count);
  for (float& value : values) value = distribution(engine);
  return values;
}

model::ModelConfig small_model(std::int64_t vocabulary) {
  model::ModelConfig c;
  c.vocab_size = vocabulary;
  c.hidden_size = 128;
  c.intermediate_size = 384;
  c.layers = 4;
  c.heads = c.kv_heads = 4;
  c.head_dim = 32;
  c.max_positions = 1024;
  c.tie_word_embeddings = true;
  return c;
}

struct Model {
  explicit Model(std::int64_t vocabulary)
      : transformer(small_model(vocabulary)),
        parameters(static_cast<std::size_t>(transformer.layout().size())) {
    model::initialise(transformer.config(), transformer.layout(), 1, parameters.span());
    weights = transformer.prepare({}, parameters.span(), kernels::Use::kTraining);
  }
  model::Transformer transformer;
  kernels::Buffer<float> parameters;
  model::Weights weights;
};

std::function<void()> sampling(std::int64_t rows, std::int64_t new_tokens, std::int64_t vocabulary) {
  const auto m = std::make_shared<Model>(vocabulary);
  const auto generator = std::make_shared<model::Generator>(m->transformer);
  return [=] {
    std::vector<model::Prompt> prompts;
    for (std::int64_t p = 0; p < rows / 8; ++p)
      prompts.push_back(
          {std::vector<std::int32_t>(16, static_cast<std::int32_t>(p + 1)), static_cast<std::uint64_t>(p)});
    model::SamplingSettings settings;
    settings.max_new_tokens = new_tokens;
    generator->generate({}, m->weights, prompts, 8, settings, {});
  };
}

std::function<void()> training(std::int64_t sequences, std::int64_t length, std::int64_t vocabulary) {
  const auto m = std::make_shared<Model>(vocabulary);
  const auto activations = std::make_shared<model::Activations>();
  const auto head = std::make_shared<model::TokenLogProbabilities>();
  return [=] {
    model::PackedBatch batch;
    model::Targets targets;
    for (std::int64_t s = 0; s < sequences; ++s)
      targets.add_sequence(batch, batch.add(std::vector<std::int32_t>(static_cast<std::size_t>(length), 7)));
    std::vector<float> gradient(m->parameters.size());
    std::vector<float> d_hidden(static_cast<std::size_t>(batch.size() * 128));
    const std::vector<float> d_values(static_cast<std::size_t>(targets.size()), 1e-3f);
    m->transformer.forward({}, m->weights, batch, model::Keep::kEverything, *activations);
    head->forward_backward({}, m->transformer, m->weights, *activations, targets, 1, d_values, d_hidden,
                           gradient);
    m->transformer.backward({}, m->weights, batch, *activations, d_hidden, gradient);
  };
}

/// Ten thousand rewards looked up in the tables of `prompts` prompts with K rollouts each.
std::function<void()> calibrating(std::int64_t prompts, std::int64_t K) {
  auto tables = std::make_shared<std::vector<float>>(normal(static_cast<std::size_t>(prompts * K)));
  for (auto at = tables->begin(); at != tables->end(); at += K) std::sort(at, at + K);
  alignment::RewardSketch pooled;
  pooled.add(*tables);
  const auto calibration =
      std::make_shared<alignment::Calibration>(alignment::CalibrationMode::kPrompt, *tables, K, pooled);
  const auto rewards = std::make_shared<std::vector<float>>(normal(10'000));
  return [=] {
    volatile double sum = 0;
    for (std::size_t i = 0; i < rewards->size(); ++i)
      sum = sum + (*calibration)(static_cast<std::int64_t>(i) % prompts, (*rewards)[i]);
  };
}

std::function<void()> sketching(std::int64_t rewards) {
  const auto values = std::make_shared<std::vector<float>>(normal(static_cast<std::size_t>(rewards)));
  const auto sketch = std::make_shared<alignment::RewardSketch>();
  return [=] { sketch->add(*values); };
}

std::function<void()> merging(std::int64_t rewards) {
  const auto a = std::make_shared<alignment::RewardSketch>(), b = std::make_shared<alignment::RewardSketch>();
  b->add(normal(static_cast<std::size_t>(rewards)));
  return [=] {
    const auto from = b->counts();
    const auto to = a->counts();
    for (std::size_t i = 0; i < from.size(); ++i) to[i] += from[i];
  };
}

/// The Best-of-N win rates of prompts with M samples on each side, 65,536 in all: so many that no branch of a
/// sort is foreseen from the time before.
std::function<void()> evaluating(std::int64_t M, std::int64_t n) {
  const auto policy = std::make_shared<std::vector<float>>(normal(65536)),
             reference = std::make_shared<std::vector<float>>(normal(65537));
  const auto deployment = std::make_shared<alignment::Deployment>(alignment::make_procedure("best_of_n", n));
  return [=] {
    volatile double sum = 0;
    const auto count = static_cast<std::size_t>(M);
    for (std::size_t at = 0; at + count <= policy->size(); at += count) {
      const auto a = std::span(*policy).subspan(at, count), b = std::span(*reference).subspan(at, count);
      sum = sum + alignment::win_rate(*deployment, {a, a, {}}, {b, b, {}}, 1);
    }
  };
}

/// The leave-one-out rewards of groups of samples, 65,536 in all.
std::function<void()> leave_one_out(std::int64_t samples, std::int64_t n) {
  const auto rewards = std::make_shared<std::vector<float>>(normal(65536));
  const auto values = std::make_shared<std::vector<double>>(rewards->begin(), rewards->end());
  const auto loo =
      std::make_shared<alignment::LeaveOneOut>(alignment::make_procedure("best_of_n", n), samples);
  return [=] {
    const auto count = static_cast<std::size_t>(samples);
    for (std::size_t at = 0; at + count <= rewards->size(); at += count)
      loo->rewards({std::span(*rewards).subspan(at, count), {}}, std::span(*values).subspan(at, count));
  };
}

std::function<void()> solving(std::int64_t n) {
  return [=] { alignment::solve_fixed_point(alignment::make_procedure("best_of_n", n), 0.05); };
}

}  // namespace

int main() {
  std::printf(
      "| work | size | time | exponent | of the larger half | expected |\n|---|---|---|---|---|---|\n");
  row("sample 16 tokens", "responses", "linear", {16, 32, 64, 128, 256, 512},
      [](auto n) { return sampling(n, 16, 2048); });
  row("sample 64 responses", "new tokens", "linear, attention quadratic", {16, 32, 64, 128, 256},
      [](auto n) { return sampling(64, n, 2048); });
  row("sample 64 responses of 16", "vocabulary", "linear beside the layers",
      {1024, 2048, 4096, 8192, 16384, 32768}, [](auto n) { return sampling(64, 16, n); });
  row("train on sequences of 64", "sequences", "linear", {4, 8, 16, 32, 64, 128},
      [](auto n) { return training(n, 64, 2048); });
  row("train on 16 sequences", "length", "linear, attention quadratic", {16, 32, 64, 128, 256, 512},
      [](auto n) { return training(16, n, 2048); });
  row("train on 16 sequences of 64", "vocabulary", "linear beside the layers",
      {1024, 2048, 4096, 8192, 16384, 32768}, [](auto n) { return training(16, 64, n); });
  row("calibrate 10,000 rewards of 100 prompts", "K", "log K", {16, 64, 256, 1024, 4096},
      [](auto n) { return calibrating(100, n); });
  row("calibrate 10,000 rewards, K = 64", "prompts", "constant but for caches", {16, 64, 256, 1024, 4096},
      [](auto n) { return calibrating(n, 64); });
  row("sketch", "rewards", "linear", {65536, 262144, 1048576, 4194304}, sketching);
  row("merge two sketches", "rewards in them", "constant", {1024, 65536, 1048576}, merging);
  row("Best-of-4 win rates, 65,536 samples", "M of a prompt", "log M", {16, 64, 256, 1024, 4096},
      [](auto n) { return evaluating(n, 4); });
  row("Best-of-N win rates, 65,536 samples, M = 1,024", "N", "constant", {2, 8, 32, 128, 512},
      [](auto n) { return evaluating(1024, n); });
  row("65,536 leave-one-out rewards, Best-of-4", "samples of a prompt", "log n", {16, 64, 256, 1024, 4096},
      [](auto n) { return leave_one_out(n, 4); });
  row("65,536 leave-one-out rewards of 1,024 samples", "N", "constant", {2, 8, 32, 128, 512},
      [](auto n) { return leave_one_out(1024, n); });
  row("the fixed point of Best-of-N", "N", "constant", {2, 4, 16, 64, 256, 1024}, solving);
  return 0;
}
