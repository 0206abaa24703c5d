#include "core/model/families.h"

namespace infalign::model {
namespace {

using Value = FixedKey::Value;

TensorNames gemma2_names() {
  TensorNames names;
  names.attention_after_norm = "post_attention_layernorm";
  names.feed_forward_norm = "pre_feedforward_layernorm";
  names.feed_forward_after_norm = "post_feedforward_layernorm";
  return names;
}

TensorNames phi3_names() {
  TensorNames names;
  names.fused_qkv = "self_attn.qkv_proj";
  names.fused_gate_up = "mlp.gate_up_proj";
  return names;
}

TensorNames gpt2_names() {
  TensorNames names;
  names.embedding = "transformer.wte";
  names.positions = "transformer.wpe";
  names.layers = "transformer.h.";
  names.input_norm = "ln_1";
  names.fused_qkv = "attn.c_attn";
  names.attention_out = "attn.c_proj";
  names.feed_forward_norm = "ln_2";
  names.up = "mlp.c_fc";
  names.down = "mlp.c_proj";
  names.final_norm = "transformer.ln_f";
  names.surplus_prefix = "transformer.";
  names.transposed = true;
  return names;
}

std::vector<FamilyTraits> make_families() {
  const FamilyTraits llama{.family = Family::kLlama,
                           .model_type = "llama",
                           .causal_lm = "LlamaForCausalLM",
                           .reward_model = "LlamaForSequenceClassification",
                           .keys = {},
                           .names = {},
                           .harmless_keys = {"is_llama_config"},
                           .fixed_keys = {{"rope_interleaved", Value::kFalse},
                                          {"use_sliding_window", Value::kFalse},
                                          {"pretraining_tp", Value::kOne}},
                           .attention_bias = AttentionBias::kByKey,
                           .mlp_bias_key = true};
  const FamilyTraits mistral{.family = Family::kMistral,
                             .model_type = "mistral",
                             .causal_lm = "MistralForCausalLM",
                             .reward_model = "MistralForSequenceClassification",
                             .keys = {},
                             .names = {},
                             .harmless_keys = {},
                             .fixed_keys = {},
                             .windows = Windows::kAll,
                             .window = 4096,
                             .kv_heads = 8};
  const FamilyTraits qwen2{.family = Family::kQwen2,
                           .model_type = "qwen2",
                           .causal_lm = "Qwen2ForCausalLM",
                           .reward_model = "Qwen2ForSequenceClassification",
                           .keys = {},
                           .names = {},
                           .harmless_keys = {},
                           .fixed_keys = {{"use_mrope", Value::kFalse}},
                           .attention_bias = AttentionBias::kQkv,
                           .windows = Windows::kUpper,
                           .window = 4096,
                           .kv_heads = 32};
  const FamilyTraits qwen3{.family = Family::kQwen3,
                           .model_type = "qwen3",
                           .causal_lm = "Qwen3ForCausalLM",
                           .reward_model = "Qwen3ForSequenceClassification",
                           .keys = {},
                           .names = {},
                           .harmless_keys = {},
                           .fixed_keys = {},
                           .qk_norms = true,
                           .attention_bias = AttentionBias::kByKey,
                           .windows = Windows::kUpper,
                           .window = 4096,
                           .kv_heads = 32,
                           .head_dim = 128};
  const FamilyTraits smollm3{.family = Family::kSmolLm3,
                             .model_type = "smollm3",
                             .causal_lm = "SmolLM3ForCausalLM",
                             .reward_model = "SmolLM3ForSequenceClassification",
                             .keys = {},
                             .names = {},
                             .harmless_keys = {"max_window_layers", "pretraining_tp"},
                             .fixed_keys = {{"rope_interleaved", Value::kFalse}},
                             .unrotated_layers = true,
                             .attention_bias = AttentionBias::kByKey,
                             .mlp_bias_key = true,
                             .windows = Windows::kUnrotated,
                             .kv_heads = 4,
                             .rope_theta = 2000000.0f,
                             .tie_word_embeddings = true};
  const FamilyTraits gemma{.family = Family::kGemma,
                           .model_type = "gemma",
                           .causal_lm = "GemmaForCausalLM",
                           .reward_model = "GemmaForSequenceClassification",
                           .keys = {.activation = {"hidden_activation", "hidden_act"}},
                           .names = {},
                           .harmless_keys = {},
                           .fixed_keys = {{"use_bidirectional_attention", Value::kFalse}},
                           .norm = Norm::kRmsPlusOne,
                           .scaled_embedding = true,
                           .attention_bias = AttentionBias::kByKey,
                           .activation = Activation::kGeluTanh,
                           .gelu_means_tanh = true,
                           .kv_heads = 16,
                           .head_dim = 256,
                           .tie_word_embeddings = true};
  const FamilyTraits gemma2{.family = Family::kGemma2,
                            .model_type = "gemma2",
                            .causal_lm = "Gemma2ForCausalLM",
                            .reward_model = "Gemma2ForSequenceClassification",
                            .keys = {.activation = {"hidden_activation", "hidden_act"}},
                            .names = gemma2_names(),
                            .harmless_keys = {"cache_implementation"},
                            .fixed_keys = {{"use_bidirectional_attention", Value::kFalse}},
                            .norm = Norm::kRmsPlusOne,
                            .norms_after_branches = true,
                            .scaled_embedding = true,
                            .query_scalar = true,
                            .attention_bias = AttentionBias::kByKey,
                            .activation = Activation::kGeluTanh,
                            .windows = Windows::kAlternate,
                            .window = 4096,
                            .kv_heads = 4,
                            .head_dim = 256,
                            .tie_word_embeddings = true};
  const FamilyTraits phi3{.family = Family::kPhi3,
                          .model_type = "phi3",
                          .causal_lm = "Phi3ForCausalLM",
                          .reward_model = "Phi3ForSequenceClassification",
                          .keys = {},
                          .names = phi3_names(),
                          .harmless_keys = {"embd_pdrop", "original_max_position_embeddings", "resid_pdrop"},
                          .fixed_keys = {{"attention_bias", Value::kFalse},
                                         {"full_attn_mod", Value::kOne},
                                         {"interpolate_factor", Value::kOne},
                                         {"lm_head_bias", Value::kFalse},
                                         {"mlp_bias", Value::kFalse}},
                          .partial_rotary = true,
                          .scaled_rope = false,
                          .windows = Windows::kAll};
  const FamilyTraits gpt2{
      .family = Family::kGpt2,
      .model_type = "gpt2",
      .causal_lm = "GPT2LMHeadModel",
      .reward_model = "GPT2ForSequenceClassification",
      .keys = {.hidden_size = "n_embd",
               .layers = "n_layer",
               .heads = "n_head",
               .max_positions = "n_positions",
               .intermediate_size = "n_inner",
               .norm_epsilon = "layer_norm_epsilon",
               .activation = {"activation_function"}},
      .names = gpt2_names(),
      .harmless_keys = {"attn_pdrop", "embd_pdrop", "n_ctx", "reorder_and_upcast_attn", "resid_pdrop",
                        "summary_activation", "summary_first_dropout", "summary_proj_to_labels",
                        "summary_type", "summary_use_proj", "task_specific_params"},
      .fixed_keys = {{"add_cross_attention", Value::kFalse},
                     {"scale_attn_by_inverse_layer_idx", Value::kFalse},
                     {"scale_attn_weights", Value::kTrue}},
      .norm = Norm::kLayer,
      .learned_positions = true,
      .gated = false,
      .attention_bias = AttentionBias::kAll,
      .always_mlp_bias = true,
      .activation = Activation::kGeluTanh,
      .tie_word_embeddings = true};
  return {llama, mistral, qwen2, qwen3, smollm3, gemma, gemma2, phi3, gpt2};
}

}  // namespace

std::span<const FamilyTraits> families() {
  static const std::vector<FamilyTraits> table = make_families();
  return table;
}

const FamilyTraits& traits_of(Family family) { return families()[static_cast<std::size_t>(family)]; }

}  // namespace infalign::model
