// Our side of a comparison with other trainers: the work of one step of reinforcement learning, whole or in
// parts, on a model of given shape with random weights. Prints one JSON object a line:
// work, model, batch, threads, dtype, value, unit, low, high, repeats, peak_rss_mib.
//
//     peer_work sample 64 S float32 2 5        # work, batch, model, dtype, threads, repeats
//
// sample: `batch` different prompts of 32 tokens, 64 new ones each from the full softmax; prompts' time
// included. train:  forward, backward and AdamW on `batch` sequences of 96 tokens, every token counted. step:
// `batch` responses, eight to a prompt (four for L): sampled, read by the reference, their rewards free,
//         the policy-gradient step made.
#include <omp.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/model/generation.h"
#include "core/model/transformer.h"
#include "distributed/communicator.h"
#include "distributed/sharded_optimizer.h"

namespace {

using namespace infalign;
using Tokens = std::vector<std::int32_t>;

constexpr std::int64_t kPrompt = 32, kNew = 64;

model::ModelConfig shape(const std::string& name) {
  model::ModelConfig c;
  c.max_positions = 256;
  c.tie_word_embeddings = true;
  const auto set = [&](std::int64_t vocabulary, std::int64_t width, std::int64_t layers, std::int64_t heads,
                       std::int64_t kv_heads, std::int64_t ffn) {
    c.vocab_size = vocabulary;
    c.hidden_size = width;
    c.layers = layers;
    c.heads = heads;
    c.kv_heads = kv_heads;
    c.head_dim = width / heads;
    c.intermediate_size = ffn;
  };
  if (name == "S") return set(2048, 128, 4, 4, 4, 384), c;
  if (name == "M") return set(32000, 288, 6, 6, 6, 768), c;
  if (name == "L") return c.rope_theta = 1e5f, set(49152, 576, 30, 9, 3, 1536), c;
  throw std::runtime_error("model: S, M or L");
}

Tokens random_tokens(std::int64_t n, std::int64_t vocabulary, std::uint64_t seed) {
  Tokens tokens;
  for (std::int64_t i = 0; i < n; ++i)
    tokens.push_back(static_cast<std::int32_t>(
        kernels::random_bits({seed, kernels::Purpose::kGeneration}, 0, static_cast<std::uint32_t>(i), 0) %
        static_cast<std::uint64_t>(vocabulary)));
  return tokens;
}

/// A model in training, with everything that one step needs.
class Bench {
 public:
  Bench(const std::string& name, kernels::Precision precision, bool trains)
      : transformer_(shape(name)),
        precision_(precision),
        policy_(static_cast<std::size_t>(transformer_.layout().size())),
        generator_(transformer_) {
    model::initialise(transformer_.config(), transformer_.layout(), 1, policy_.span());
    if (trains)
      optimizer_.emplace(*ranks_, transformer_.layout().size(), distributed::SumMode::kFast,
                         std::vector<distributed::Interval>{});
    prepare(trains ? kernels::Use::kTraining : kernels::Use::kSampling);
  }

  std::vector<std::vector<model::Response>> sample(std::int64_t prompts, std::int64_t samples) {
    std::vector<model::Prompt> batch;
    for (std::int64_t p = 0; p < prompts; ++p)
      batch.push_back({random_tokens(kPrompt, vocabulary(), static_cast<std::uint64_t>(p + 1)),
                       static_cast<std::uint64_t>(p)});
    model::SamplingSettings settings;
    settings.max_new_tokens = kNew;
    return generator_.generate({}, weights_, batch, samples, settings, {7, kernels::Purpose::kPolicy});
  }

  void train(std::int64_t sequences) {
    constexpr std::int64_t kMicroBatch = 8;  // sequences
    for (std::int64_t first = 0; first < sequences; first += kMicroBatch) {
      model::PackedBatch batch;
      model::Targets targets;
      for (std::int64_t s = first; s < std::min(sequences, first + kMicroBatch); ++s)
        targets.add_sequence(
            batch, batch.add(random_tokens(kPrompt + kNew, vocabulary(), static_cast<std::uint64_t>(s + 1))));
      accumulate(batch, targets, std::vector<float>(static_cast<std::size_t>(targets.size()), -1e-4f));
      optimizer_->end_micro_batch((sequences + kMicroBatch - 1) / kMicroBatch);
    }
    update();
  }

  void step(std::int64_t responses, std::int64_t samples, std::int64_t prompts_at_a_time) {
    if (!reference_) {  // shares its matrices' memory with nobody, as the reference of a run
      reference_parameters_ = std::vector<float>(policy_.data(), policy_.data() + policy_.size());
      reference_.emplace(transformer_.prepare({}, reference_parameters_, kernels::Use::kScoring, precision_));
    }
    const std::int64_t prompts = responses / samples;
    const auto all = sample(prompts, samples);
    for (std::int64_t first = 0; first < prompts; first += prompts_at_a_time) {
      model::PackedBatch batch;
      model::Targets targets;
      std::vector<float> advantage;
      for (std::int64_t p = first; p < std::min(prompts, first + prompts_at_a_time); ++p) {
        const auto prompt =
            batch.add(random_tokens(kPrompt, vocabulary(), static_cast<std::uint64_t>(p + 1)));
        for (const auto& response : all[static_cast<std::size_t>(p)]) {
          targets.add_continuation(batch, batch.add(response.tokens, prompt));
          advantage.resize(static_cast<std::size_t>(targets.size()),
                           1e-4f * static_cast<float>(targets.size() % 7 - 3));
        }
      }
      transformer_.forward({}, *reference_, batch, model::Keep::kNothing, activations_);
      head_.forward({}, transformer_, *reference_, activations_, targets, 1);
      accumulate(batch, targets, advantage);
      optimizer_->end_micro_batch((prompts + prompts_at_a_time - 1) / prompts_at_a_time);
    }
    update();
  }

 private:
  std::int64_t vocabulary() const { return transformer_.config().vocab_size; }
  void prepare(kernels::Use use) { transformer_.prepare({}, policy_.span(), use, precision_, weights_); }
  void accumulate(const model::PackedBatch& batch, const model::Targets& targets,
                  const std::vector<float>& d_values) {
    d_hidden_.resize(static_cast<std::size_t>(batch.size() * transformer_.config().hidden_size));
    transformer_.forward({}, weights_, batch, model::Keep::kEverything, activations_);
    head_.forward_backward({}, transformer_, weights_, activations_, targets, 1, d_values, d_hidden_,
                           optimizer_->gradient());
    transformer_.backward({}, weights_, batch, activations_, d_hidden_, optimizer_->gradient());
  }
  void update() {
    optimizer_->step({.learning_rate = 1e-6f}, 1, policy_.span());
    prepare(kernels::Use::kTraining);
  }

  model::Transformer transformer_;
  kernels::Precision precision_;
  kernels::Buffer<float> policy_;
  model::Weights weights_;
  std::unique_ptr<distributed::Communicator> ranks_ = distributed::make_local();
  std::optional<distributed::ShardedOptimizer> optimizer_;
  model::Generator generator_;
  model::Activations activations_;
  model::TokenLogProbabilities head_;
  std::vector<float> d_hidden_, reference_parameters_;
  std::optional<model::Weights> reference_;
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 7)
    throw std::runtime_error("peer_work sample|train|step BATCH S|M|L float32|bfloat16 THREADS REPEATS");
  const std::string work = argv[1], name = argv[3], dtype = argv[4];
  const std::int64_t batch = std::stol(argv[2]);
  const int threads = std::stoi(argv[5]), repeats = std::stoi(argv[6]);
  omp_set_num_threads(threads);
  const auto precision = dtype == "bfloat16" ? kernels::Precision::kBfloat16 : kernels::Precision::kFloat32;
  if (precision == kernels::Precision::kBfloat16 && !kernels::has_bfloat16())
    throw std::runtime_error("this processor has no bfloat16 products");
  Bench bench(name, precision, work != "sample");
  double tokens = 0;
  const auto once = [&] {
    if (work == "sample") {
      bench.sample(batch, 1);
      tokens = static_cast<double>(batch * kNew);
    } else if (work == "train") {
      bench.train(batch);
      tokens = static_cast<double>(batch * (kPrompt + kNew));
    } else if (work == "step") {
      bench.step(batch, name == "L" ? 4 : 8, 2);
    } else {
      throw std::runtime_error("work: sample, train or step");
    }
  };
  once();
  std::vector<double> values;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    once();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    values.push_back(tokens > 0 ? tokens / seconds : seconds);
  }
  std::sort(values.begin(), values.end());
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("%s\n", nlohmann::ordered_json{{"peer", "infalign"},
                                             {"work", work},
                                             {"model", name},
                                             {"batch", batch},
                                             {"threads", threads},
                                             {"dtype", dtype},
                                             {"value", values[values.size() / 2]},
                                             {"unit", tokens > 0 ? "tokens/s" : "s"},
                                             {"low", values.front()},
                                             {"high", values.back()},
                                             {"repeats", repeats},
                                             {"peak_rss_mib", usage.ru_maxrss / 1024}}
                          .dump()
                          .c_str());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "peer_work: %s\n", error.what());
  return 2;
}
