// The table of families: what each calls its tensors and keys, what it always has, and what it has when a key
// is absent. A new family is a row here; where its decoder does something that no description in
// model_config.h covers, that is added there for all.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/model/model_config.h"

namespace infalign::model {

/// Names of tensors, those of a layer behind `layers` and its number; empty where a family has none.
/// ".weight" and ".bias" are appended.
struct TensorNames {
  std::string_view embedding = "model.embed_tokens", positions;
  std::string_view layers = "model.layers.";
  std::string_view input_norm = "input_layernorm";
  std::string_view q = "self_attn.q_proj", k = "self_attn.k_proj", v = "self_attn.v_proj";
  std::string_view fused_qkv;  // q, k and v in one tensor
  std::string_view q_norm = "self_attn.q_norm", k_norm = "self_attn.k_norm";
  std::string_view attention_out = "self_attn.o_proj";
  std::string_view attention_after_norm;  // where norms_after_branches
  std::string_view feed_forward_norm = "post_attention_layernorm";
  std::string_view gate = "mlp.gate_proj", up = "mlp.up_proj";
  std::string_view fused_gate_up;  // gate and up in one tensor
  std::string_view down = "mlp.down_proj";
  std::string_view feed_forward_after_norm;
  std::string_view final_norm = "model.norm";
  std::string_view surplus_prefix;  // of the names above, which older files leave out
  bool transposed = false;          // the layers' matrices lie [in, out] in files
};

/// Keys that one family or another spells differently.
struct KeyNames {
  std::string_view hidden_size = "hidden_size", layers = "num_hidden_layers", heads = "num_attention_heads",
                   max_positions = "max_position_embeddings", intermediate_size = "intermediate_size",
                   norm_epsilon = "rms_norm_eps";
  std::vector<std::string_view> activation = {"hidden_act"};  // the first that is given counts
};

/// Which biases the attention has.
enum class AttentionBias { kNone, kQkv, kByKey, kAll };  // kByKey: attention_bias, on q, k, v and output

/// Which layers look through a window of `sliding_window`.
enum class Windows {
  kNone,
  kAll,
  kUpper,      // if use_sliding_window, those from max_window_layers on, or by layer_types
  kAlternate,  // every other one from the first on, or by layer_types
  kUnrotated,  // if use_sliding_window, those without rotary positions, or by layer_types
};

/// A key that may be given, but has one value only.
struct FixedKey {
  std::string_view key;
  enum class Value { kFalse, kTrue, kOne } value;
};

struct FamilyTraits {
  Family family;
  std::string_view model_type, causal_lm, reward_model;  // the latter two are architectures
  KeyNames keys;
  TensorNames names;
  std::vector<std::string_view> harmless_keys;  // that change no number of ours
  std::vector<FixedKey> fixed_keys;

  Norm norm = Norm::kRms;
  bool norms_after_branches = false, qk_norms = false, learned_positions = false, gated = true;
  bool scaled_embedding = false;  // by sqrt(hidden_size)
  bool query_scalar = false;      // query_pre_attn_scalar, attn_logit_softcapping, final_logit_softcapping
  bool partial_rotary = false;    // partial_rotary_factor
  bool unrotated_layers = false;  // no_rope_layers, no_rope_layer_interval
  bool scaled_rope = true;        // rope_scaling of kinds other than the default
  AttentionBias attention_bias = AttentionBias::kNone;
  bool mlp_bias_key = false, always_mlp_bias = false;
  Activation activation = Activation::kSilu;  // where no key says it
  bool gelu_means_tanh = false;               // "gelu" in files older than the exact name
  Windows windows = Windows::kNone;
  std::int64_t window = 0;           // where sliding_window is absent; 0: none
  std::int64_t kv_heads = 0;         // where num_key_value_heads is absent; 0: as many as heads
  std::int64_t head_dim = 0;         // where head_dim is absent; 0: hidden_size / heads
  float rope_theta = 10000.0f;       // where rope_theta is absent
  bool tie_word_embeddings = false;  // where tie_word_embeddings is absent
};

/// All of them, in the order of enum Family.
std::span<const FamilyTraits> families();

const FamilyTraits& traits_of(Family family);

}  // namespace infalign::model
