#include "core/model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace infalign::model {
namespace {

using Json = nlohmann::json;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Json llama() {
  return Json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
    "intermediate_size": 172, "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 4,
    "vocab_size": 512, "max_position_embeddings": 512, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
    "hidden_act": "silu", "tie_word_embeddings": true, "use_cache": true, "rope_scaling": null})");
}

Json with(const std::string& key, const Json& value) {
  Json json = llama();
  json[key] = value;
  return json;
}

Json without(const std::string& key) {
  Json json = llama();
  json.erase(key);
  return json;
}

ModelConfig read(const Json& json) { return ModelConfig::from_json(json, "folder/config.json"); }

/// What the InputError says; empty if there is none.
std::string refusal(const Json& json) {
  try {
    read(json);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(ModelConfig, ReadsEverySize) {
  const ModelConfig config = read(llama());
  EXPECT_EQ(config.vocab_size, 512);
  EXPECT_EQ(config.hidden_size, 64);
  EXPECT_EQ(config.intermediate_size, 172);
  EXPECT_EQ(config.layers, 5);
  EXPECT_EQ(config.heads, 8);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.max_positions, 512);
  EXPECT_EQ(config.norm_epsilon, 1e-5f);
  EXPECT_EQ(config.rope_theta, 500000.0f);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_FALSE(config.score_head);
  EXPECT_EQ(config.qkv_width(), 128);
}

TEST(ModelConfig, AbsentKeysHaveTheFamilysDefaults) {
  EXPECT_EQ(read(without("num_key_value_heads")).kv_heads, 8);
  EXPECT_EQ(read(with("head_dim", nullptr)).head_dim, 8);
  EXPECT_EQ(read(with("head_dim", 16)).head_dim, 16);
  EXPECT_EQ(read(without("rope_theta")).rope_theta, 10000.0f);
  EXPECT_FALSE(read(without("tie_word_embeddings")).tie_word_embeddings);
}

TEST(ModelConfig, ReadsTheNewerSpellingOfRope) {
  Json json = without("rope_theta");
  json["rope_parameters"] = {{"rope_theta", 250000.0}, {"rope_type", "default"}};
  json["layer_types"] = {"full_attention", "full_attention"};
  json["dtype"] = "float32";
  EXPECT_EQ(read(json).rope_theta, 250000.0f);
}

TEST(ModelConfig, ReadsARewardModel) {
  Json json = with("architectures", {"LlamaForSequenceClassification"});
  json["id2label"] = {{"0", "LABEL_0"}};
  json["label2id"] = {{"LABEL_0", 0}};
  json["problem_type"] = "regression";
  EXPECT_TRUE(read(json).score_head);
  EXPECT_FALSE(read(json).tie_word_embeddings);
  json["id2label"]["1"] = "LABEL_1";
  EXPECT_THAT(refusal(json), HasSubstr("id2label"));
  json["id2label"] = {{"0", "LABEL_0"}};
  json["num_labels"] = 3;
  EXPECT_THAT(refusal(json), HasSubstr("num_labels"));
}

TEST(ModelConfig, ReadsScaledRopeInBothSpellings) {
  Json llama3 = {{"rope_type", "llama3"},
                 {"factor", 8.0},
                 {"low_freq_factor", 1.0},
                 {"high_freq_factor", 4.0},
                 {"original_max_position_embeddings", 64}};
  const RopeScaling older = read(with("rope_scaling", llama3)).rope_scaling;
  EXPECT_EQ(older.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(older.factor, 8.0f);
  EXPECT_EQ(older.original_positions, 64.0f);
  llama3["rope_theta"] = 500000.0;
  EXPECT_EQ(read(with("rope_parameters", llama3)).rope_scaling.high_frequency_factor, 4.0f);
  EXPECT_EQ(read(with("rope_scaling", {{"type", "linear"}, {"factor", 2.0}})).rope_scaling.factor, 2.0f);
}

TEST(ModelConfig, RefusesRopeItDoesNotUnderstand) {
  const std::string yarn = refusal(with("rope_scaling", {{"type", "yarn"}, {"factor", 2.0}}));
  EXPECT_THAT(yarn, HasSubstr("folder/config.json: rope_scaling"));
  EXPECT_THAT(yarn, HasSubstr("yarn"));
  EXPECT_THAT(yarn, HasSubstr("llama3")) << "what is supported";
  EXPECT_THAT(refusal(with("rope_parameters", {{"rope_type", "llama3"}, {"factor", 8.0}})),
              HasSubstr("low_freq_factor"));
  EXPECT_THAT(refusal(with("rope_scaling", {{"type", "linear"}})), HasSubstr("factor"));
  EXPECT_THAT(refusal(with("rope_scaling", {{"type", "linear"}, {"factor", 2.0}, {"mscale", 0.7}})),
              HasSubstr("mscale"));
  EXPECT_THAT(refusal(with("rope_parameters", {{"rope_theta", 10.0}})), HasSubstr("disagrees"));
  EXPECT_THAT(refusal(with("rope_parameters", {{"partial_rotary_factor", 0.5}})),
              HasSubstr("partial_rotary_factor"));
  Json both = with("rope_scaling", {{"type", "linear"}, {"factor", 2.0}});
  both["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 3.0}};
  EXPECT_THAT(refusal(both), HasSubstr("disagrees"));
}

TEST(ModelConfig, RefusesWhatItDoesNotCompute) {
  const std::string unknown = refusal(with("architectures", {"MambaForCausalLM"}));
  EXPECT_THAT(unknown, HasSubstr("MambaForCausalLM"));
  EXPECT_THAT(unknown, HasSubstr("Qwen3ForCausalLM")) << "what is supported";
  EXPECT_THAT(refusal(with("model_type", "mistral")), HasSubstr("mistral"));
  EXPECT_THAT(refusal(with("hidden_act", "relu")), HasSubstr("relu"));
  EXPECT_THAT(refusal(with("attention_bias", "some")), HasSubstr("attention_bias"));
  EXPECT_THAT(refusal(with("pretraining_tp", 2)), HasSubstr("pretraining_tp"));
  EXPECT_THAT(refusal(with("rope_interleaved", true)), HasSubstr("rope_interleaved"));
  EXPECT_THAT(refusal(with("layer_types", {"sliding_attention"})), HasSubstr("sliding_attention"));
  EXPECT_THAT(refusal(with("quantization_config", {{"bits", 4}})), HasSubstr("quantization_config"));
  EXPECT_THAT(refusal(with("logit_scale", 2)), HasSubstr("logit_scale"));
  EXPECT_THAT(refusal(with("sliding_window", 7)), HasSubstr("sliding_window")) << "Llama has none";
  EXPECT_EQ(refusal(with("sliding_window", nullptr)), "");
}

/// The same sizes in another family.
Json of(const std::string& architecture, const std::string& type) {
  Json json = with("architectures", {architecture});
  json["model_type"] = type;
  return json;
}

std::vector<std::int64_t> windows(const ModelConfig& config) {
  std::vector<std::int64_t> result;
  for (std::int64_t i = 0; i < config.layers; ++i) result.push_back(config.layer(i).window);
  return result;
}

std::vector<bool> rotated(const ModelConfig& config) {
  std::vector<bool> result;
  for (std::int64_t i = 0; i < config.layers; ++i) result.push_back(config.layer(i).rotary);
  return result;
}

TEST(ModelConfig, MistralSlidesInEveryLayer) {
  Json json = of("MistralForCausalLM", "mistral");
  EXPECT_THAT(windows(read(json)), ElementsAre(4096, 4096, 4096, 4096, 4096)) << "the family's default";
  json["sliding_window"] = nullptr;
  EXPECT_THAT(windows(read(json)), Each(0));
  json["sliding_window"] = 7;
  EXPECT_THAT(windows(read(json)), Each(7));
  json["sliding_window"] = 0;
  EXPECT_THAT(refusal(json), HasSubstr("sliding_window"));
  json = of("MistralForCausalLM", "mistral");
  json.erase("num_key_value_heads");
  EXPECT_EQ(read(json).kv_heads, 8) << "the family's default";
}

TEST(ModelConfig, Qwen2SlidesInUpperLayersIfAskedTo) {
  Json json = of("Qwen2ForCausalLM", "qwen2");
  json["sliding_window"] = 9;
  json["max_window_layers"] = 3;
  EXPECT_TRUE(read(json).qkv_bias);
  EXPECT_FALSE(read(json).attention_out_bias);
  EXPECT_THAT(windows(read(json)), Each(0));
  json["use_sliding_window"] = true;
  EXPECT_THAT(windows(read(json)), ElementsAre(0, 0, 0, 9, 9));
  json["layer_types"] = {"sliding_attention", "full_attention", "full_attention", "full_attention",
                         "full_attention"};
  EXPECT_THAT(windows(read(json)), ElementsAre(9, 0, 0, 0, 0));
  json["layer_types"] = {"sliding_attention"};
  EXPECT_THAT(refusal(json), HasSubstr("layer_types"));
}

TEST(ModelConfig, Qwen3NormalisesHeads) {
  Json json = of("Qwen3ForCausalLM", "qwen3");
  EXPECT_TRUE(read(json).qk_norms);
  EXPECT_FALSE(read(json).qkv_bias);
  EXPECT_EQ(read(json).head_dim, 128) << "the family's default";
}

TEST(ModelConfig, SmolLm3LeavesSomeLayersUnrotated) {
  Json json = of("SmolLM3ForCausalLM", "smollm3");
  json.erase("tie_word_embeddings");
  EXPECT_TRUE(read(json).tie_word_embeddings) << "the family's default";
  EXPECT_THAT(rotated(read(json)), ElementsAre(true, true, true, false, true));
  json["no_rope_layer_interval"] = 2;
  EXPECT_THAT(rotated(read(json)), ElementsAre(true, false, true, false, true));
  json["no_rope_layers"] = {0, 1, 1, 1, 0};
  EXPECT_THAT(rotated(read(json)), ElementsAre(false, true, true, true, false));
  json["use_sliding_window"] = true;
  json["sliding_window"] = 6;
  EXPECT_THAT(windows(read(json)), ElementsAre(6, 0, 0, 0, 6));
  json["no_rope_layers"] = {0, 1, 2, 1, 0};
  EXPECT_THAT(refusal(json), HasSubstr("no_rope_layers"));
}

TEST(ModelConfig, GemmaScalesEmbeddingsAndSaysGeluForTanh) {
  Json json = of("GemmaForCausalLM", "gemma");
  json["hidden_act"] = "gelu";
  json["hidden_activation"] = nullptr;
  json["head_dim"] = 16;
  const ModelConfig config = read(json);
  EXPECT_EQ(config.norm, Norm::kRmsPlusOne);
  EXPECT_EQ(config.activation, Activation::kGeluTanh);
  EXPECT_EQ(config.embedding_scale, 8.0f);
  json["use_bidirectional_attention"] = true;
  EXPECT_THAT(refusal(json), HasSubstr("use_bidirectional_attention"));
}

TEST(ModelConfig, Gemma2CapsAndAlternates) {
  Json json = of("Gemma2ForCausalLM", "gemma2");
  json["hidden_act"] = "gelu_pytorch_tanh";
  json["head_dim"] = 16;
  json["sliding_window"] = 5;
  ModelConfig config = read(json);
  EXPECT_THAT(windows(config), ElementsAre(5, 0, 5, 0, 5));
  EXPECT_TRUE(config.norms_after_branches);
  EXPECT_EQ(config.attention_scale, 1.0f / 16) << "query_pre_attn_scalar is 256 where it is absent";
  EXPECT_EQ(config.attention_softcap, 50.0f);
  EXPECT_EQ(config.logit_softcap, 30.0f);
  json["attn_logit_softcapping"] = nullptr;
  json["final_logit_softcapping"] = 7.5;
  json["query_pre_attn_scalar"] = 4;
  config = read(json);
  EXPECT_EQ(config.attention_softcap, 0.0f);
  EXPECT_EQ(config.logit_softcap, 7.5f);
  EXPECT_EQ(config.attention_scale, 0.5f);
  json["sliding_window_size"] = 6;
  EXPECT_THAT(refusal(json), HasSubstr("sliding_window_size"));
}

TEST(ModelConfig, Phi3RotatesAPart) {
  Json json = of("Phi3ForCausalLM", "phi3");
  EXPECT_EQ(read(json).rotary_dim, 0);
  EXPECT_THAT(windows(read(json)), Each(0));
  json["partial_rotary_factor"] = 0.75;
  json["sliding_window"] = 2047;
  EXPECT_EQ(read(json).rotary_dim, 6);
  EXPECT_THAT(windows(read(json)), Each(2047));
  json["partial_rotary_factor"] = 0.4;
  EXPECT_THAT(refusal(json), HasSubstr("partial_rotary_factor"));
  json.erase("partial_rotary_factor");
  json["rope_scaling"] = {{"type", "longrope"}, {"short_factor", {1.0}}, {"long_factor", {1.0}}};
  EXPECT_THAT(refusal(json), HasSubstr("longrope"));
}

TEST(ModelConfig, Gpt2HasItsOwnKeys) {
  Json json = Json::parse(R"({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 90,
    "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_ctx": 64, "layer_norm_epsilon": 1e-05,
    "activation_function": "gelu_new", "n_inner": null, "task_specific_params": {"text-generation": {}}})");
  const ModelConfig config = read(json);
  EXPECT_EQ(config.intermediate_size, 128);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.norm, Norm::kLayer);
  EXPECT_TRUE(config.learned_positions && config.tie_word_embeddings && config.qkv_bias &&
              config.attention_out_bias && config.feed_forward_bias);
  EXPECT_FALSE(config.gated);
  EXPECT_THAT(inverse_frequencies(config), ::testing::IsEmpty());
  json["activation_function"] = "silu";
  EXPECT_THAT(refusal(json), HasSubstr("activation_function"));
  json["activation_function"] = "gelu_new";
  json["scale_attn_by_inverse_layer_idx"] = true;
  EXPECT_THAT(refusal(json), HasSubstr("scale_attn_by_inverse_layer_idx"));
}

TEST(ModelConfig, Llama3FrequenciesAreDividedWhereTheyAreLow) {
  ModelConfig config;
  config.head_dim = 4;
  config.rope_theta = 1e8f;
  config.rope_scaling = {.kind = RopeScaling::Kind::kLlama3,
                         .factor = 8,
                         .low_frequency_factor = 1,
                         .high_frequency_factor = 4,
                         .original_positions = 64};
  EXPECT_THAT(inverse_frequencies(config), ElementsAre(1.0f, 1e-4f / 8));
}

TEST(ModelConfig, RefusesImpossibleSizes) {
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "max_position_embeddings", "rms_norm_eps", "architectures"}) {
    EXPECT_THAT(refusal(without(key)), HasSubstr(std::string(key) + ": missing"));
    EXPECT_THAT(refusal(with(key, -3)), HasSubstr(key));
    EXPECT_THAT(refusal(with(key, "many")), HasSubstr(key));
  }
  EXPECT_THAT(refusal(with("num_key_value_heads", 3)), HasSubstr("num_key_value_heads"));
  EXPECT_THAT(refusal(with("num_attention_heads", 12)), HasSubstr("head_dim"));
  EXPECT_THAT(refusal(with("head_dim", 7)), HasSubstr("head_dim"));
  EXPECT_THAT(refusal(Json::array()), HasSubstr("object"));
}

}  // namespace
}  // namespace infalign::model
