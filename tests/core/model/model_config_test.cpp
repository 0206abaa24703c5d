#include "core/model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace infalign::model {
namespace {

using Json = nlohmann::json;
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
  EXPECT_EQ(config.rms_norm_epsilon, 1e-5f);
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

TEST(ModelConfig, RefusesScaledRope) {
  const std::string scaling = refusal(with("rope_scaling", {{"type", "linear"}, {"factor", 2.0}}));
  EXPECT_THAT(scaling, HasSubstr("folder/config.json: rope_scaling"));
  EXPECT_THAT(scaling, HasSubstr("linear"));
  const std::string parameters = refusal(with("rope_parameters", {{"rope_type", "llama3"}, {"factor", 8.0}}));
  EXPECT_THAT(parameters, HasSubstr("rope_parameters"));
  EXPECT_THAT(parameters, HasSubstr("llama3"));
  EXPECT_THAT(refusal(with("rope_parameters", {{"rope_theta", 10.0}})), HasSubstr("disagrees"));
  EXPECT_THAT(refusal(with("rope_parameters", {{"partial_rotary_factor", 0.5}})),
              HasSubstr("partial_rotary_factor"));
}

TEST(ModelConfig, RefusesWhatItDoesNotCompute) {
  EXPECT_THAT(refusal(with("architectures", {"GPT2LMHeadModel"})), HasSubstr("GPT2LMHeadModel"));
  EXPECT_THAT(refusal(with("model_type", "mistral")), HasSubstr("mistral"));
  EXPECT_THAT(refusal(with("hidden_act", "gelu")), HasSubstr("gelu"));
  EXPECT_THAT(refusal(with("attention_bias", true)), HasSubstr("attention_bias"));
  EXPECT_THAT(refusal(with("mlp_bias", true)), HasSubstr("mlp_bias"));
  EXPECT_THAT(refusal(with("layer_types", {"sliding_attention"})), HasSubstr("sliding_attention"));
  EXPECT_THAT(refusal(with("quantization_config", {{"bits", 4}})), HasSubstr("quantization_config"));
  EXPECT_THAT(refusal(with("logit_scale", 2)), HasSubstr("logit_scale"));
  EXPECT_EQ(refusal(with("sliding_window", nullptr)), "");
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

TEST(ModelConfig, WritesWhatItReads) {
  for (const char* architecture : {"LlamaForCausalLM", "LlamaForSequenceClassification"}) {
    Json json = with("architectures", {architecture});
    json["rms_norm_eps"] = 1e-6;
    json["head_dim"] = 16;
    json["initializer_range"] = 0.041666666666666664;
    const Json written = read(json).to_json();
    EXPECT_EQ(read(written).to_json(), written);
    EXPECT_EQ(written["architectures"][0], architecture);
    EXPECT_EQ(written["head_dim"], 16);
    EXPECT_EQ(written["rms_norm_eps"], 1e-6) << "the decimal that was meant, not the float's expansion";
    EXPECT_EQ(read(written).initializer_range, 0.041666666666666664f);
  }
}

}  // namespace
}  // namespace infalign::model
