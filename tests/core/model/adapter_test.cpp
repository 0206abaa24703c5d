// Adapters on every family against the float64 program with the updates added to its weights:
// log-probabilities, rewards, every gradient by central differences; and the map of their buffer, whose names
// are PEFT's.
#include "core/model/adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/model/families.h"
#include "core/model/generation.h"
#include "core/model/passes.h"
#include "core/model/reference_passes.h"
#include "core/model/test_models.h"
#include "core/model/tiny_families.h"

namespace infalign::model {
namespace {

using testing::central_differences;
using testing::expect_near;
using testing::in_float64;
using testing::kStream;
using testing::log_probabilities;
using testing::Model;
using testing::reference_log_probabilities;
using testing::reference_rewards;
using testing::Task;
using testing::weighted_sum;

/// A model and an adapter far from its start, so that every term counts.
struct Adapted {
  Model model;
  AdapterLayout layout;
  std::vector<float> values;
  Weights base, weights;
  struct NamedUpdate {
    std::int64_t weight;  // its offset
    const ParameterView *a, *b;
  };
  std::vector<NamedUpdate> updates;  // found by the names of their tensors

  Adapted(const ModelConfig& config, std::vector<std::string> targets)
      : model(testing::random_model(config, 7)),
        layout(config, {2, 1.5f, std::move(targets)}),
        values(testing::normal_values(layout.size(), 11, 0.4f)),
        base(model.weights()) {
    weights.adapt(kStream, base, layout, values);
    const std::string prefix = "base_model.model.", suffix = ".lora_A.weight";
    for (const ParameterView& a : layout.views()) {
      if (!a.name.ends_with(suffix)) continue;
      const std::string module = a.name.substr(0, a.name.size() - suffix.size());
      const auto b = std::ranges::find(layout.views(), module + ".lora_B.weight", &ParameterView::name);
      const auto weight = std::ranges::find(model.transformer.layout().views(),
                                            module.substr(prefix.size()) + ".weight", &ParameterView::name);
      updates.push_back({weight->offset, &a, &*b});
    }
  }
  Adapted(const Adapted&) = delete;

  const Transformer& transformer() const { return model.transformer; }
  std::vector<float> gradient(const Task& task, Keep keep = Keep::kEverything) const {
    return testing::gradient(transformer(), weights, layout.size(), task, keep);
  }
  /// Of the task's loss, by values of the adapter, as the float64 program has it.
  std::vector<double> reference_gradient(const Task& task) const {
    return central_differences(values, [&](std::span<const double> adapter) {
      return weighted_sum(task.loss_weight,
                          reference_log_probabilities(transformer().config(), merged(adapter), task));
    });
  }

  /// The model's parameters with these values of the adapter added, in float64.
  std::vector<double> merged(std::span<const double> adapter) const {
    std::vector<double> parameters = in_float64(model.parameters);
    for (const auto& [weight, a, b] : updates) {
      const std::int64_t rank = a->shape[0], k = a->shape[1];
      for (std::int64_t j = 0; j < b->shape[0]; ++j)
        for (std::int64_t r = 0; r < rank; ++r) {
          const double factor = 1.5 / 2 * adapter[static_cast<std::size_t>(b->offset + j * rank + r)];
          for (std::int64_t i = 0; i < k; ++i)
            parameters[static_cast<std::size_t>(weight + j * k + i)] +=
                factor * adapter[static_cast<std::size_t>(a->offset + r * k + i)];
        }
    }
    if (layout.score() != kAbsent)
      std::copy(adapter.begin() + layout.score(), adapter.end(),
                parameters.begin() + model.transformer.layout().score());
    return parameters;
  }
  std::vector<double> merged() const { return merged(in_float64(values)); }
};

class AdapterOfEveryModel : public ::testing::TestWithParam<testing::NamedConfig> {};
INSTANTIATE_TEST_SUITE_P(Family, AdapterOfEveryModel, ::testing::ValuesIn(testing::every_model(6)),
                         [](const auto& param) { return param.param.name; });

TEST_P(AdapterOfEveryModel, ComputesWhatTheMergedModelDoes) {
  const Adapted m(GetParam().config, {"all-linear"});
  const Task task;
  const auto unmerged = log_probabilities(m.transformer(), m.weights, task);
  expect_near(unmerged, reference_log_probabilities(GetParam().config, m.merged(), task), 5e-6);
  Model merged = m.model;
  merge(kStream, m.transformer().layout(), m.layout, m.values, merged.parameters);
  expect_near(log_probabilities(merged, task), unmerged, 1e-5);
  EXPECT_EQ(log_probabilities(m.transformer(), m.base, task), log_probabilities(m.model, task))
      << "the base is as it was";
}

TEST_P(AdapterOfEveryModel, GradientIsThatOfCentralDifferences) {
  const Adapted m(GetParam().config, {"all-linear"});
  const Task task;
  const auto gradient = m.gradient(task);
  expect_near(gradient, m.reference_gradient(task), 1e-5);
  EXPECT_EQ(m.gradient(task, Keep::kBlockInputs), gradient) << "blocks computed once more";
}

TEST_P(AdapterOfEveryModel, RewardsAndTheirGradientAreThoseOfTheReference) {
  const ModelConfig config = testing::with_score_head(GetParam().config);
  const Adapted m(config, {"all-linear"});
  const auto expected = reference_rewards(config, m.merged());
  expect_near(testing::rewards(m.transformer(), m.weights), expected, 5e-6);

  const std::vector<float> d_reward = {0.5f, -1.25f};
  const auto [rewards, gradient] =
      testing::rewards_with_gradient(m.transformer(), m.weights, m.layout.size(), d_reward);
  expect_near(rewards, expected, 5e-6);
  const auto loss = [&](std::span<const double> adapter) {
    return weighted_sum(d_reward, reference_rewards(config, m.merged(adapter)));
  };
  expect_near(gradient, central_differences(m.values, loss), 1e-5);
}

TEST_P(AdapterOfEveryModel, SamplerAgreesWithTheTrainer) {
  const Adapted m(GetParam().config, {"all-linear"});
  const std::vector<Prompt> prompts = {{{1, 5, 2, 9, 8}, 3}};
  const SamplingSettings settings{.max_new_tokens = 12, .stop_tokens = {}};
  const auto response = Generator(m.transformer())
                            .generate(kStream, m.weights, prompts, 1, settings,
                                      {.seed = 5, .purpose = kernels::Purpose::kPolicy})[0][0];
  const Task task({{prompts[0].tokens, {response.tokens}}});
  expect_near(log_probabilities(m.transformer(), m.weights, task), response.log_probabilities, 1e-5);
}

TEST(Adapter, OfSomeModulesLeavesTheOthers) {
  const ModelConfig config = testing::tiny_config();
  const Adapted m(config, {"q_proj", "v_proj", "mlp.down_proj"});
  EXPECT_THAT(m.layout.modules(),
              ::testing::ElementsAre("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"));
  const Task task;
  expect_near(log_probabilities(m.transformer(), m.weights, task),
              reference_log_probabilities(config, m.merged(), task), 5e-6);
  expect_near(m.gradient(task), m.reference_gradient(task), 1e-5);
}

TEST(Adapter, ItsBufferIsFilledByPeftsTensors) {
  // C 8, F 10, 4 heads (2 for k and v) of 6
  const AdapterLayout layout(testing::with_score_head(testing::tiny_config()),
                             {3, 6, {"q_proj", "v_proj", "down_proj"}});
  EXPECT_EQ(layout.scale(), 2);
  std::vector<std::string> names;
  std::int64_t at = 0;
  for (const ParameterView& view : layout.views()) {
    EXPECT_EQ(view.offset, at) << view.name;
    EXPECT_EQ(view.size, view.shape[0] * view.shape[1]) << view.name;
    at += view.size;
    if (view.name.find("layers.1") == std::string::npos)
      names.push_back(view.name + " " + std::to_string(view.shape[0]) + "x" + std::to_string(view.shape[1]));
  }
  EXPECT_EQ(layout.size(), at);
  const std::string layer = "base_model.model.model.layers.0.";
  EXPECT_THAT(
      names, ::testing::ElementsAre(
                 layer + "self_attn.q_proj.lora_A.weight 3x8", layer + "self_attn.v_proj.lora_A.weight 3x8",
                 layer + "self_attn.q_proj.lora_B.weight 24x3", layer + "self_attn.v_proj.lora_B.weight 12x3",
                 layer + "mlp.down_proj.lora_A.weight 3x10", layer + "mlp.down_proj.lora_B.weight 8x3",
                 "base_model.model.score.weight 1x8"));
}

TEST(Adapter, ChangesNothingAtFirst) {
  const ModelConfig config = testing::tiny_config();
  const Model model = testing::random_model(config, 7);
  const AdapterLayout layout(config, {4, 8, {"all-linear"}});
  std::vector<float> values(static_cast<std::size_t>(layout.size()), 7.0f), again = values, other = values;
  initialise(layout, 5, {}, values);
  initialise(layout, 5, {}, again);
  initialise(layout, 6, {}, other);
  EXPECT_EQ(values, again);
  EXPECT_NE(values, other);
  const Weights base = model.weights();
  Weights adapted;
  adapted.adapt(kStream, base, layout, values);
  EXPECT_EQ(log_probabilities(model.transformer, adapted), log_probabilities(model.transformer, base));
  for (const ParameterView& view : layout.views()) {
    const std::span<const float> of_view(values.data() + view.offset, static_cast<std::size_t>(view.size));
    if (view.name.ends_with("lora_B.weight")) {
      EXPECT_THAT(of_view, ::testing::Each(0.0f)) << view.name;
      continue;
    }
    const float bound = 1 / std::sqrt(static_cast<float>(view.shape[1]));
    EXPECT_THAT(of_view, ::testing::Each(::testing::AllOf(::testing::Ge(-bound), ::testing::Le(bound))));
    EXPECT_GT(*std::ranges::max_element(of_view), 0.5f * bound) << view.name;
    EXPECT_LT(*std::ranges::min_element(of_view), -0.5f * bound) << view.name;
  }
}

TEST(Adapter, KeepsTheScoreHeadThatTheModelHas) {
  const ModelConfig config = testing::with_score_head(testing::tiny_config());
  const Model model = testing::random_model(config, 7);
  const AdapterLayout layout(config, {4, 8, {"q_proj"}});
  std::vector<float> values(static_cast<std::size_t>(layout.size()));
  initialise(layout, 5, std::span(model.parameters).last(static_cast<std::size_t>(config.hidden_size)),
             values);
  for (std::int64_t c = 0; c < config.hidden_size; ++c)
    EXPECT_EQ(values[static_cast<std::size_t>(layout.score() + c)],
              model.parameters[static_cast<std::size_t>(model.transformer.layout().score() + c)]);
}

TEST(Adapter, NamesTheModulesThereAreForOneThatIsNot) {
  const auto refusal = [](const ModelConfig& config, const std::string& target) -> std::string {
    try {
      AdapterLayout(config, {4, 8, {target}});
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal(testing::tiny_config(), "c_attn"),
            "no module of this model is called c_attn; there are q_proj, k_proj, v_proj, o_proj, gate_proj, "
            "up_proj, down_proj, and all-linear for all of them");
  EXPECT_NE(refusal(testing::tiny_config(), "proj"), "") << "a part of a name is none";
  EXPECT_EQ(refusal(testing::tiny_config(), "self_attn.q_proj"), "");
  for (const auto& [name, json] : testing::tiny_family_files()) {
    if (ModelConfig::from_json(json, name).family != Family::kGpt2) continue;
    const AdapterLayout layout(ModelConfig::from_json(json, name), {4, 8, {"c_proj"}});
    EXPECT_THAT(layout.modules(), ::testing::ElementsAre("attn.c_proj", "mlp.c_proj"));
  }
}

}  // namespace
}  // namespace infalign::model
