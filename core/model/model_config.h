// What a decoder-only transformer looks like, read from and written to a Hugging Face `config.json`. One
// value describes the model; there is no class for each family.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace infalign::model {

struct ModelConfig {
  std::int64_t vocab_size = 0;         // V
  std::int64_t hidden_size = 0;        // C
  std::int64_t intermediate_size = 0;  // F
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_positions = 0;
  float rms_norm_epsilon = 1e-5f;
  float rope_theta = 10000.0f;
  bool tie_word_embeddings = false;  // the head is the embedding; never so with a score head
  bool score_head = false;           // *ForSequenceClassification with one label: a reward model, no LM head
  float initializer_range = 0.02f;

  /// From the JSON of `config.json`. Errors: InputError that names `where`, the key, and what is supported,
  /// for a missing key, an impossible value, an unsupported architecture or a key that would change the
  /// result and is not understood.
  static ModelConfig from_json(const nlohmann::json& json, const std::string& where);

  /// The keys this description fixes, for a folder of our own (hf-export minimum: architectures, model_type,
  /// sizes...).
  nlohmann::json to_json() const;

  std::int64_t qkv_width() const { return (heads + 2 * kv_heads) * head_dim; }
};

}  // namespace infalign::model
