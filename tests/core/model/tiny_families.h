// A tiny model of each family by its config.json, and descriptions that no family has: every feature with
// every other, drawn at random.
#pragma once

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "core/model/model_config.h"

namespace infalign::model::testing {

struct NamedJson {
  std::string name;
  nlohmann::json json;
};

/// Each as the family's own files are written, with windows that end within the tests' sequences.
inline std::vector<NamedJson> tiny_family_files() {
  const auto file = [](const std::string& architecture, const char* more) {
    auto json = nlohmann::json::parse(R"({"vocab_size": 13, "hidden_size": 8, "intermediate_size": 10,
      "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
      "max_position_embeddings": 32, "rms_norm_eps": 1e-4, "torch_dtype": "float32"})");
    json["architectures"] = {architecture};
    json.update(nlohmann::json::parse(more));
    for (auto it = json.begin(); it != json.end();) it = *it == "absent" ? json.erase(it) : std::next(it);
    return json;
  };
  return {
      {"llama_linear", file("LlamaForCausalLM", R"({"model_type": "llama", "rope_theta": 100.0,
         "rope_scaling": {"type": "linear", "factor": 2.5}})")},
      {"llama_dynamic", file("LlamaForCausalLM", R"({"model_type": "llama", "tie_word_embeddings": true,
         "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}})")},
      {"llama3", file("LlamaForCausalLM", R"({"model_type": "llama", "head_dim": 8, "rope_parameters":
         {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16, "rope_theta": 50.0}})")},
      {"llama_biases", file("LlamaForCausalLM", R"({"model_type": "llama", "attention_bias": true,
         "mlp_bias": true, "hidden_act": "gelu"})")},
      {"mistral", file("MistralForCausalLM", R"({"model_type": "mistral", "sliding_window": 3})")},
      {"qwen2", file("Qwen2ForCausalLM", R"({"model_type": "qwen2", "head_dim": "absent",
         "use_sliding_window": true, "sliding_window": 4, "max_window_layers": 1})")},
      {"qwen3", file("Qwen3ForCausalLM", R"({"model_type": "qwen3", "tie_word_embeddings": true,
         "layer_types": ["full_attention", "full_attention"]})")},
      {"smollm3", file("SmolLM3ForCausalLM", R"({"model_type": "smollm3", "head_dim": "absent",
         "no_rope_layer_interval": 2, "pretraining_tp": 2})")},
      {"gemma", file("GemmaForCausalLM", R"({"model_type": "gemma", "hidden_act": "gelu"})")},
      {"gemma2", file("Gemma2ForCausalLM", R"({"model_type": "gemma2", "sliding_window": 3,
         "query_pre_attn_scalar": 5, "attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.5})")},
      {"phi3", file("Phi3ForCausalLM", R"({"model_type": "phi3", "sliding_window": 5, "head_dim": "absent",
         "hidden_size": 16, "partial_rotary_factor": 0.5})")},
      {"gpt2", nlohmann::json::parse(R"({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2",
         "vocab_size": 13, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32, "n_ctx": 32,
         "layer_norm_epsilon": 1e-4, "activation_function": "gelu_new", "n_inner": null})")},
  };
}

/// A description drawn at random; the family is one whose names cover it.
inline ModelConfig random_config(unsigned seed) {
  std::mt19937 engine(seed);
  const auto one_of = [&](auto... choices) {
    const std::vector<std::common_type_t<decltype(choices)...>> all = {choices...};
    return all[engine() % all.size()];
  };
  const auto coin = [&] { return engine() % 2 == 0; };
  ModelConfig config;
  config.family = one_of(Family::kLlama, Family::kGemma2, Family::kPhi3, Family::kGpt2);
  config.vocab_size = 13;
  config.hidden_size = one_of(7, 8, 12);
  config.intermediate_size = one_of(5, 10, 16);
  config.layers = one_of(1, 2, 3);
  config.kv_heads = one_of(1, 2);
  config.heads = config.kv_heads * one_of(1, 2, 3);
  config.head_dim = one_of(4, 6, 8);
  config.max_positions = 32;
  config.norm = one_of(Norm::kRms, Norm::kRmsPlusOne, Norm::kLayer);
  config.norm_epsilon = one_of(1e-5f, 1e-3f);
  config.norms_after_branches = config.family == Family::kGemma2 && coin();
  config.qk_norms = coin();
  config.learned_positions = config.family == Family::kGpt2 && coin();
  config.rope_theta = one_of(30.0f, 10000.0f);
  config.rotary_dim = one_of(0, 2, 4);
  config.rope_scaling = {
      .kind = one_of(RopeScaling::Kind::kNone, RopeScaling::Kind::kLinear, RopeScaling::Kind::kLlama3),
      .factor = 3,
      .low_frequency_factor = 1,
      .high_frequency_factor = 3,
      .original_positions = 20};
  config.attention_scale = one_of(0.0f, 0.7f);
  config.attention_softcap = one_of(0.0f, 1.25f);
  for (std::int64_t i = 0; i < config.layers; ++i)
    config.attention.push_back({.window = one_of(0, 1, 3, 6), .rotary = coin()});
  config.activation = one_of(Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf);
  config.gated = config.activation == Activation::kSilu || config.family == Family::kPhi3 || coin();
  config.qkv_bias = coin();
  config.attention_out_bias = coin();
  config.feed_forward_bias = coin();
  config.embedding_scale = one_of(1.0f, 2.5f);
  config.logit_softcap = one_of(0.0f, 2.0f);
  config.tie_word_embeddings = coin();
  return config;
}

struct NamedConfig {
  std::string name;
  ModelConfig config;
};

/// The families, and so many descriptions drawn at random.
inline std::vector<NamedConfig> every_model(unsigned drawn) {
  std::vector<NamedConfig> all;
  for (const auto& [name, json] : tiny_family_files())
    all.push_back({name, ModelConfig::from_json(json, name)});
  for (unsigned seed = 1; seed <= drawn; ++seed)
    all.push_back({"random_" + std::to_string(seed), random_config(seed)});
  return all;
}

}  // namespace infalign::model::testing
