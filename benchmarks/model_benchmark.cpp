// Tokens per second of sampling and of training with a model of the size of stories260K (260,032 weights),
// each beside what it should be held against, measured in the same run: sampling one response at a time, and
// the rate of a large matrix product. OMP_NUM_THREADS=1 gives the numbers of one core.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "core/model/generation.h"
#include "core/model/transformer.h"
#include "kernels/adamw/adamw.h"
#include "kernels/matmul/matmul.h"

namespace {

using namespace infalign;
using model::ModelConfig;
using model::Transformer;

const kernels::Stream kStream;

ModelConfig stories_config() {
  ModelConfig config;
  config.vocab_size = 512;
  config.hidden_size = 64;
  config.intermediate_size = 172;
  config.layers = 5;
  config.heads = 8;
  config.kv_heads = 4;
  config.head_dim = 8;
  config.max_positions = 512;
  config.tie_word_embeddings = true;
  return config;
}

std::vector<float> fresh_weights(const Transformer& transformer) {
  std::vector<float> parameters(static_cast<std::size_t>(transformer.layout().size()));
  model::initialise(transformer.config(), transformer.layout(), 1, parameters);
  return parameters;
}

template <class Work>
double seconds(Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Floating-point operations per second of a product of 768 x 768 matrices, the best of ten.
double matmul_peak() {
  static const double peak = [] {
    constexpr std::int64_t n = 768;
    std::vector<float> a(n * n, 1.0f), b(n * n, 0.5f), c(n * n);
    double best = 1e30;
    for (int i = 0; i < 10; ++i) {
      best = std::min(best, seconds([&] {
                        kernels::matmul(kStream, kernels::Transpose::kNo, kernels::Transpose::kNo, n, n, n,
                                        a.data(), n, b.data(), n, 0, c.data(), n);
                      }));
    }
    return 2.0 * n * n * n / best;
  }();
  return peak;
}

/// Tokens drawn by generating `new_tokens` for each of `rows` responses, eight to a prompt of 16 tokens.
std::int64_t sample(model::Generator& generator, const model::Weights& weights, std::int64_t rows,
                    std::int64_t new_tokens) {
  const std::int64_t samples = std::min<std::int64_t>(rows, 8);
  std::vector<model::Prompt> prompts;
  for (std::int64_t p = 0; p < rows / samples; ++p) {
    prompts.push_back(
        {std::vector<std::int32_t>(16, static_cast<std::int32_t>(p + 1)), static_cast<std::uint64_t>(p)});
  }
  model::SamplingSettings settings;
  settings.max_new_tokens = new_tokens;
  benchmark::DoNotOptimize(generator.generate(kStream, weights, prompts, samples, settings, {}));
  return rows * new_tokens;
}

double single_stream_rate() {
  static const double rate = [] {
    const Transformer transformer(stories_config());
    const auto parameters = fresh_weights(transformer);
    model::Generator generator(transformer);
    const auto weights = transformer.prepare(kStream, parameters, kernels::Use::kSampling);
    sample(generator, weights, 1, 256);
    std::int64_t tokens = 0;
    const double taken = seconds([&] { tokens = sample(generator, weights, 1, 256); });
    return static_cast<double>(tokens) / taken;
  }();
  return rate;
}

void sampling(benchmark::State& state) {
  const Transformer transformer(stories_config());
  const auto parameters = fresh_weights(transformer);
  const auto weights = transformer.prepare(kStream, parameters, kernels::Use::kSampling);
  model::Generator generator(transformer);
  const double single = single_stream_rate(), peak = matmul_peak();
  std::int64_t tokens = 0;
  double taken = 0;
  for (auto _ : state) {
    taken += seconds([&] { tokens += sample(generator, weights, state.range(0), state.range(1)); });
  }
  const double rate = static_cast<double>(tokens) / taken;
  state.counters["tokens/s"] = rate;
  state.counters["x_single_stream"] = rate / single;
  state.counters["of_matmul_peak"] = rate * 2 * static_cast<double>(parameters.size()) / peak;
}
BENCHMARK(sampling)
    ->ArgNames({"rows", "new_tokens"})
    ->Args({1, 256})
    ->Args({64, 256})
    ->Args({64, 64})
    ->Args({64, 16})
    ->Args({256, 64})
    ->Unit(benchmark::kMillisecond);

/// Forward, log-probabilities, backward and AdamW on `sequences` sequences of `length` tokens.
void training(benchmark::State& state) {
  const Transformer transformer(stories_config());
  auto parameters = fresh_weights(transformer);
  const std::int64_t sequences = state.range(0), length = state.range(1);
  model::PackedBatch batch;
  model::Targets targets;
  for (std::int64_t s = 0; s < sequences; ++s) {
    std::vector<std::int32_t> tokens;
    for (std::int64_t t = 0; t < length; ++t)
      tokens.push_back(static_cast<std::int32_t>((s * 31 + t * 17) % 512));
    targets.add_sequence(batch, batch.add(tokens));
  }
  const auto n = parameters.size();
  std::vector<float> gradient(n), first_moment(n), second_moment(n);
  model::Weights weights;
  std::vector<float> d_hidden(static_cast<std::size_t>(batch.size() * transformer.config().hidden_size));
  const std::vector<float> d_values(static_cast<std::size_t>(targets.size()),
                                    -1.0f / static_cast<float>(targets.size()));
  model::Activations activations;
  model::TokenLogProbabilities head;
  kernels::AdamWStep hyper{.learning_rate = 1e-4f};
  const double peak = matmul_peak();
  double taken = 0;
  for (auto _ : state) {
    taken += seconds([&] {
      std::fill(gradient.begin(), gradient.end(), 0.0f);
      transformer.prepare(kStream, parameters, kernels::Use::kTraining, kernels::Precision::kFloat32,
                          weights);
      transformer.forward(kStream, weights, batch, model::Keep::kEverything, activations);
      head.forward_backward(kStream, transformer, weights, activations, targets, 1, d_values, d_hidden,
                            gradient);
      transformer.backward(kStream, weights, batch, activations, d_hidden, gradient);
      kernels::adamw(kStream, hyper, static_cast<std::int64_t>(n), gradient.data(), parameters.data(),
                     first_moment.data(), second_moment.data());
      ++hyper.step;
    });
  }
  const double rate = static_cast<double>(batch.size()) * static_cast<double>(state.iterations()) / taken;
  state.counters["tokens/s"] = rate;
  state.counters["of_matmul_peak"] = rate * 6 * static_cast<double>(n) / peak;
}
BENCHMARK(training)
    ->ArgNames({"sequences", "length"})
    ->Args({8, 256})
    ->Args({128, 32})
    ->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
