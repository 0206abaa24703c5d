// Decoding step by step: the prompts' keys and values computed once, then one new token for every live row at
// a time. It stands apart from generation.h, which decides what the tokens are; here they are only carried
// through the model.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "core/model/pieces.h"
#include "core/model/transformer.h"
#include "kernels/decode_attention/decode_attention.h"
#include "kernels/device.h"

namespace infalign::model {

/// The rows of a step, each a response being written. Arrays of equal length, as kernels read them.
struct DecodeRows {
  std::vector<std::int32_t> token;          // the newest token of the response
  std::vector<std::int32_t> position;       // its position in prompt and response together
  std::vector<std::int32_t> prompt;         // whose cache stands before the response
  std::vector<std::int32_t> prompt_length;  // positions in it
  std::vector<std::int32_t> slot;           // the response's own place in the cache
  std::vector<std::int32_t> own_position;   // the token's position in the response
  std::vector<std::int32_t> own_length;     // own_position + 1: positions it attends to

  std::int64_t size() const { return static_cast<std::int64_t>(token.size()); }
  /// The first token of each response comes next.
  void add(std::int32_t prompt_index, std::int32_t length_of_prompt);
  /// Moves every row on to its next token.
  void advance();
  /// Drops the rows for which keep is false; the others stay in order, and in their slots.
  void compact(std::span<const char> keep);
};

/// Keys and values of all layers for a number of slots.
class KeyValueCache {
 public:
  void reserve(const kernels::Stream& on, const ModelConfig& config, std::int64_t slots,
               std::int64_t positions, kernels::Precision stored);
  kernels::CacheView layer(std::int64_t i);
  static std::int64_t bytes(const ModelConfig& config, std::int64_t slots, std::int64_t positions,
                            kernels::Precision stored);

 private:
  kernels::ValuesBuffer keys_, values_;  // [layers, ...CacheView]
  std::int64_t slots_ = 0, capacity_ = 0, stride_ = 0;
};

/// Memory that decoding leaves in use.
struct DecoderBytes {
  std::int64_t prefill = 0;  // activations of the prompts
  std::int64_t cache = 0;    // keys and values of prompts and responses
  std::int64_t rows = 0;     // activations of a step
};

class Decoder {
 public:
  explicit Decoder(const Transformer& transformer) : transformer_(&transformer) {}
  const Transformer& transformer() const { return *transformer_; }

  /// Runs the prompts and makes room for rows.size() responses of up to max_new_tokens. The result [rows, C]
  /// holds for each row the last hidden state of its prompt, which predicts the first token. Stream and
  /// weights are to outlive the steps that follow.
  std::span<const float> prefill(const kernels::Stream& on, const Weights& weights,
                                 const PackedBatch& prompts, const DecodeRows& rows,
                                 std::int64_t max_new_tokens);

  /// Runs the rows' newest tokens; the result [rows, C] holds the normalised hidden states that predict the
  /// next. On a GPU the layers are recorded for each number of rows that comes twice, and then replayed: few
  /// numbers make quick steps.
  std::span<const float> step(const DecodeRows& rows);

  /// For `prompts` prompts of `prompt_tokens` tokens together, the longest of `longest`, and `rows`
  /// responses; `stored` as the device stores activations.
  static DecoderBytes bytes(const ModelConfig& config, std::int64_t prompts, std::int64_t prompt_tokens,
                            std::int64_t longest, std::int64_t rows, std::int64_t max_new_tokens,
                            kernels::Precision stored = kernels::Precision::kFloat32);

 private:
  /// What of the rows the layers read, in memory of the device.
  struct Columns {
    const std::int32_t *position, *prompt, *prompt_length, *slot, *own_position, *own_length;
  };

  Decoder() = default;
  /// On a GPU at the same addresses for the same number of rows.
  Columns columns_of(const DecodeRows& rows);
  /// From the embeddings in residual_ [n, C] to hidden_ [n, C].
  void run_layers(std::int64_t n, const Columns& columns);
  /// Calls visit(buffer, width) for each buffer [rows, width] of a step: the one list of them.
  template <class Visit>
  void for_each_row_buffer(const ModelConfig& config, Visit&& visit);

  const Transformer* transformer_ = nullptr;
  // Of the last prefill, and the steps after it.
  const kernels::Stream* on_ = nullptr;
  const Weights* weights_ = nullptr;
  std::optional<Pieces> pieces_;
  std::map<std::int64_t, kernels::Recording>
      recorded_;  // by the number of rows; empty after their first step

  Activations activations_;
  KeyValueCache prompts_, responses_;
  kernels::Buffer<float> residual_, branch_, inverse_rms_, hidden_;
  kernels::ValuesBuffer normed_, qkv_, attended_, gate_up_, gated_;
  kernels::Buffer<std::int32_t> columns_;  // of a GPU
  // Before norms that some models have:
  kernels::ValuesBuffer raw_qkv_;
  kernels::Buffer<float> qk_inverse_rms_, raw_branch_;
};

}  // namespace infalign::model
