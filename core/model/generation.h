// Sampling responses: prompts are prefilled once, then all their samples decode together, one token each a
// step, over a shared prompt cache; finished rows leave the batch. Prompts whose caches would not fit the
// processor's are sampled one share after another. Every draw is a pure function of (seed, purpose, prompt
// id, sample id, position).
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
  explicit Generator(const Transformer& transformer) : decoder_(transformer) {}

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
  /// All samples of all prompts at once, into responses [prompts][samples], which are empty at first.
  void generate_together(const kernels::Stream& on, const Weights& weights, std::span<const Prompt> prompts,
                         const SamplingSettings& settings, kernels::RandomKey key, std::uint32_t first_sample,
                         std::span<std::vector<Response>> responses);
  /// One token for each row of hidden states [uniform_.size(), C], by the numbers in uniform_.
  void draw(const kernels::Stream& on, const Weights& weights, std::span<const float> hidden,
            const SamplingSettings& settings);

  Decoder decoder_;
  kernels::Buffer<float> logits_;
  std::vector<double> uniform_;                                // [rows]
  std::vector<std::int32_t> token_;                            // [rows]
  std::vector<float> log_probability_, log_probability_at_1_;  // [rows]
};

}  // namespace infalign::model
