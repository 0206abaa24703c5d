#include "core/model/parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/model/test_models.h"

namespace infalign::model {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> names(const ParameterLayout& layout) {
  std::vector<std::string> result;
  for (const ParameterView& view : layout.views()) result.push_back(view.name);
  return result;
}

const ParameterView& find(const ParameterLayout& layout, const std::string& name) {
  for (const ParameterView& view : layout.views()) {
    if (view.name == name) return view;
  }
  throw std::runtime_error("no view " + name);
}

TEST(ParameterLayout, HasHuggingFacesNamesInTheOrderOfTheForwardPass) {
  ModelConfig config = testing::tiny_config();
  config.layers = 1;
  EXPECT_THAT(names(ParameterLayout(config)),
              ElementsAre("model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
                          "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
                          "model.layers.0.self_attn.v_proj.weight", "model.layers.0.self_attn.o_proj.weight",
                          "model.layers.0.post_attention_layernorm.weight",
                          "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight",
                          "model.layers.0.mlp.down_proj.weight", "model.norm.weight", "lm_head.weight"));
}

TEST(ParameterLayout, ViewsFillTheBufferWithoutGaps) {
  for (const bool tied : {false, true}) {
    for (const bool score : {false, true}) {
      ModelConfig config = testing::tiny_config();
      config.tie_word_embeddings = tied;
      config.score_head = score;
      const ParameterLayout layout(config);
      std::int64_t at = 0;
      for (const ParameterView& view : layout.views()) {
        EXPECT_EQ(view.offset, at) << view.name;
        at += view.size;
      }
      EXPECT_EQ(layout.size(), at);
    }
  }
}

TEST(ParameterLayout, KnowsItsShapes) {
  const ParameterLayout layout(testing::tiny_config());
  EXPECT_THAT(find(layout, "model.layers.1.self_attn.q_proj.weight").shape, ElementsAre(24, 8));
  EXPECT_THAT(find(layout, "model.layers.1.self_attn.v_proj.weight").shape, ElementsAre(12, 8));
  EXPECT_THAT(find(layout, "model.layers.1.self_attn.o_proj.weight").shape, ElementsAre(8, 24));
  EXPECT_THAT(find(layout, "model.layers.1.mlp.down_proj.weight").shape, ElementsAre(8, 10));
  EXPECT_EQ(layout.layer(1).matrix[Matrix::kQkv].weight,
            find(layout, "model.layers.1.self_attn.q_proj.weight").offset);
  EXPECT_EQ(layout.layer(1).matrix[Matrix::kGateUp].weight,
            find(layout, "model.layers.1.mlp.gate_proj.weight").offset);
  EXPECT_FALSE(find(layout, "model.norm.weight").decayed());
  EXPECT_TRUE(find(layout, "lm_head.weight").decayed());
}

TEST(ParameterLayout, HasOneHead) {
  ModelConfig config = testing::tiny_config();
  EXPECT_EQ(ParameterLayout(config).head(), find(ParameterLayout(config), "lm_head.weight").offset);
  EXPECT_EQ(ParameterLayout(config).score(), -1);
  config.tie_word_embeddings = true;
  EXPECT_EQ(ParameterLayout(config).head(), ParameterLayout(config).embedding());
  config.tie_word_embeddings = false;
  config.score_head = true;
  EXPECT_EQ(ParameterLayout(config).head(), -1);
  EXPECT_THAT(find(ParameterLayout(config), "score.weight").shape, ElementsAre(1, 8));
}

/// Mean and deviation of a tensor of fresh weights, each within six standard errors (a false alarm with
/// probability below 1e-8).
void expect_normal(std::span<const float> values, double deviation, const std::string& name) {
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const float value : values) {
    sum += value;
    squares += double{value} * value;
  }
  EXPECT_LT(std::abs(sum / n), 6 * deviation / std::sqrt(n)) << name;
  EXPECT_LT(std::abs(std::sqrt(squares / n) - deviation), 6 * deviation / std::sqrt(2 * n)) << name;
}

TEST(Initialise, DrawsEachTensorAsItsRoleAsks) {
  ModelConfig config = testing::tiny_config();
  config.vocab_size = 300;
  config.hidden_size = 64;
  config.layers = 8;
  config.initializer_range = 0.05f;
  const ParameterLayout layout(config);
  std::vector<float> parameters(static_cast<std::size_t>(layout.size()));
  initialise(config, layout, 1, parameters);
  for (const ParameterView& view : layout.views()) {
    const std::span<const float> values(parameters.data() + view.offset, static_cast<std::size_t>(view.size));
    if (!view.decayed()) {
      EXPECT_THAT(values, ::testing::Each(1.0f)) << view.name;
    } else {
      const bool residual = view.name.ends_with("o_proj.weight") || view.name.ends_with("down_proj.weight");
      expect_normal(values, residual ? 0.05 / 4 : 0.05, view.name);
    }
  }
}

TEST(Initialise, DependsOnTheSeedAlone) {
  const ModelConfig config = testing::tiny_config();
  const ParameterLayout layout(config);
  const auto draw = [&](std::uint64_t seed) {
    std::vector<float> parameters(static_cast<std::size_t>(layout.size()));
    initialise(config, layout, seed, parameters);
    return parameters;
  };
  EXPECT_EQ(draw(1), draw(1));
  EXPECT_NE(draw(1), draw(2));
  EXPECT_NE(draw(1), draw(1 + (std::uint64_t{1} << 32)));
}

}  // namespace
}  // namespace infalign::model
