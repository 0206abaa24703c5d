// What a decoder-only transformer looks like, read from a Hugging Face `config.json`. One value describes the
// model: its sizes, norms, positions, attention, feed-forward, biases and caps. The passes read this
// description alone; which family filled it in (families.h) decides no more than the names of tensors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/json/forward.h"

namespace infalign::model {

enum class Family { kLlama, kMistral, kQwen2, kQwen3, kSmolLm3, kGemma, kGemma2, kPhi3, kGpt2 };

enum class Norm {
  kRms,         // x / rms * weight
  kRmsPlusOne,  // x / rms * (1 + weight)
  kLayer,       // (x - mean) / deviation * weight + bias
};

enum class Activation { kSilu, kGeluTanh, kGeluErf };

/// How rotary frequencies differ from theta^(-2 d / rotary_dim).
struct RopeScaling {
  enum class Kind {
    kNone,
    kLinear,   // all divided by factor (Chen et al. 2023)
    kDynamic,  // as they are up to max_positions, beyond which no sequence goes here
    kLlama3,   // low ones divided by factor, high ones as they are, smoothly in between
  };
  Kind kind = Kind::kNone;
  float factor = 1;
  float low_frequency_factor = 1, high_frequency_factor = 4;  // in wavelengths of original_positions
  float original_positions = 0;
};

/// What may differ from layer to layer.
struct LayerAttention {
  std::int64_t window = 0;  // positions that a token sees, itself included; 0: all before it
  bool rotary = true;       // whether queries and keys are rotated
};

struct ModelConfig {
  Family family = Family::kLlama;
  std::int64_t vocab_size = 0;         // V
  std::int64_t hidden_size = 0;        // C
  std::int64_t intermediate_size = 0;  // F
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_positions = 0;

  Norm norm = Norm::kRms;
  float norm_epsilon = 1e-5f;
  bool norms_after_branches = false;  // attention and feed-forward are normalised again before they are added
  bool qk_norms = false;              // RMSNorm on each head of q and k

  bool learned_positions = false;  // a table of positions added to the embedding; else they are rotary
  float rope_theta = 10000.0f;
  std::int64_t rotary_dim = 0;  // values of each head that are rotated; 0: all
  RopeScaling rope_scaling;

  float attention_scale = 0;              // of scores; 0: 1 / sqrt(head_dim)
  float attention_softcap = 0;            // on scores; 0: none
  std::vector<LayerAttention> attention;  // [layers], or empty where no layer differs from the default

  Activation activation = Activation::kSilu;
  bool gated = true;  // activation(gate) * up; else activation(up)

  bool qkv_bias = false, attention_out_bias = false, feed_forward_bias = false;

  float embedding_scale = 1;
  float logit_softcap = 0;           // on the language-model head's logits; 0: none
  bool tie_word_embeddings = false;  // the head is the embedding; never so with a score head
  bool score_head = false;           // *ForSequenceClassification with one label: a reward model, no LM head
  float initializer_range = 0.02f;

  /// From the JSON of `config.json`. Errors: InputError that names `where`, the key, and what is supported,
  /// for a missing key, an impossible value, an unsupported architecture or a key that would change the
  /// result and is not understood.
  static ModelConfig from_json(const Json& json, const std::string& where);

  std::int64_t q_width() const { return heads * head_dim; }
  std::int64_t qkv_width() const { return (heads + 2 * kv_heads) * head_dim; }
  std::int64_t gate_up_width() const { return gated ? 2 * intermediate_size : intermediate_size; }
  LayerAttention layer(std::int64_t i) const {
    return attention.empty() ? LayerAttention{} : attention[static_cast<std::size_t>(i)];
  }
};

/// [rotary_dim / 2] of rotary positions, in float32 arithmetic throughout, as transformers computes them;
/// empty for learned positions.
std::vector<float> inverse_frequencies(const ModelConfig& config);

}  // namespace infalign::model
