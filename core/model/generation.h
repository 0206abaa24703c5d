// Sampling responses: prompts are prefilled once, then all their samples decode together, one token each a
// step, over a shared prompt cache; finished rows leave the batch. Prompts whose caches would not fit the
// processor's are sampled one share after another, and small models' shares on all threads at once. Every
// draw is a pure function of (seed, purpose, prompt id, sample id, position).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/model/decoder.h"
#include "core/model/transformer.h"
#include "kernels/random/philox.h"

namespace infalign::model {

struct SamplingSettings {
  float temperature = 1;
  float top_p = 1;
  bool greedy = false;
  std::int64_t max_new_tokens = 16;
  std::vector<std::int32_t> stop_tokens;  // a drawn stop token ends the response and is its last token
};

struct Prompt {
  std::vector<std::int32_t> tokens;  // at least one
  std::uint64_t id = 0;              // names its random numbers
};

struct Response {
  std::vector<std::int32_t> tokens;           // [L], the stop token included
  std::vector<float> log_probabilities;       // [L], under softmax(logits / temperature), as trained with
  std::vector<float> log_probabilities_at_1;  // [L], under softmax(logits)
  bool stopped = false;                       // by a stop token, rather than by max_new_tokens
};

class Generator {
 public:
  explicit Generator(const Transformer& transformer) : transformer_(&transformer) {}

  /// Draws samples first_sample .. first_sample + samples - 1 of each prompt; result [prompts][samples].
  /// Errors: std::invalid_argument for an empty prompt, or one that with max_new_tokens exceeds
  /// max_positions.
  std::vector<std::vector<Response>> generate(const kernels::Stream& on, const Weights& weights,
                                              std::span<const Prompt> prompts, std::int64_t samples,
                                              const SamplingSettings& settings, kernels::RandomKey key,
                                              std::uint32_t first_sample = 0);

  /// Memory of the logits that `rows` responses need at a time; what else it takes is the decoder's.
  static std::int64_t logits_bytes(const ModelConfig& config, std::int64_t rows);

 private:
  /// What one thread samples with; kept for the next call.
  struct Worker {
    explicit Worker(const Transformer& transformer) : decoder(transformer) {}
    Decoder decoder;
    kernels::Buffer<float> logits;
    std::vector<double> uniform;                               // [rows]
    std::vector<std::int32_t> token;                           // [rows]
    std::vector<float> log_probability, log_probability_at_1;  // [rows]
  };

  /// All samples of all prompts at once, into responses [prompts][samples], which are empty at first.
  static void generate_together(Worker& worker, const kernels::Stream& on, const Weights& weights,
                                std::span<const Prompt> prompts, const SamplingSettings& settings,
                                kernels::RandomKey key, std::uint32_t first_sample,
                                std::span<std::vector<Response>> responses);
  /// One token for each row of hidden states [worker.uniform.size(), C], by the numbers in worker.uniform.
  static void draw(Worker& worker, const kernels::Stream& on, const Weights& weights,
                   std::span<const float> hidden, const SamplingSettings& settings);

  const Transformer* transformer_;
  std::vector<Worker> workers_;  // one for each thread that has sampled
};

}  // namespace infalign::model
