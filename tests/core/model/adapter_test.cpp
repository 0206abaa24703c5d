// Adapters on every family against the float64 program with the updates added to its weights:
// log-probabilities, rewards, every gradient by central differences; and the map of their buffer, whose names
// are PEFT's.
#include "core/model/adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <stdexcept>

#include "core/model/families.h"
#include "core/model/generation.h"
#include "core/model/reference_transformer.h"
#include "core/model/test_models.h"
#include "core/model/tiny_families.h"

namespace infalign::model {
namespace {

using testing::Model;
using testing::ReferenceTransformer;
using Tokens = std::vector<std::int32_t>;

const kernels::Stream kStream;
const Tokens kPrompt = {1, 5, 2, 9, 8};
const std::vector<Tokens> kResponses = {{3, 3, 12, 0, 7, 1}, {4, 6}};

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
      : model(testing::random_model(config, 7)), layout(config, {2, 1.5f, std::move(targets)}) {
    std::mt19937 generator(11);
    std::normal_distribution<float> normal(0, 0.4f);
    for (std::int64_t i = 0; i < layout.size(); ++i) values.push_back(normal(generator));
    base = model.weights();
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

  /// The model's parameters with these values of the adapter added, in float64.
  std::vector<double> merged(std::span<const double> adapter) const {
    std::vector<double> parameters(model.parameters.begin(), model.parameters.end());
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
  std::vector<double> merged() const { return merged(std::vector<double>(values.begin(), values.end())); }
};

/// The prompt once, its responses behind it; loss = sum of loss_weight[i] log p(target i).
struct Task {
  PackedBatch batch;
  Targets targets;
  std::vector<std::int32_t> last_rows;  // of the responses
  std::vector<float> loss_weight;
  Task() {
    const std::int32_t prompt = batch.add(kPrompt);
    for (const Tokens& response : kResponses) {
      targets.add_continuation(batch, batch.add(response, prompt));
      last_rows.push_back(static_cast<std::int32_t>(batch.size()) - 1);
    }
    for (std::int64_t i = 0; i < targets.size(); ++i)
      loss_weight.push_back(static_cast<float>(std::sin(1.0 + 2.3 * static_cast<double>(i))));
  }
};

Tokens joined(const Tokens& a, const Tokens& b) {
  Tokens result = a;
  result.insert(result.end(), b.begin(), b.end());
  return result;
}

std::vector<double> reference_values(const ModelConfig& config, std::span<const double> parameters) {
  std::vector<double> values;
  for (const Tokens& response : kResponses) {
    const auto table =
        ReferenceTransformer(config).log_probabilities(parameters, joined(kPrompt, response), 1);
    for (std::size_t i = 0; i < response.size(); ++i)
      values.push_back(table[kPrompt.size() - 1 + i][static_cast<std::size_t>(response[i])]);
  }
  return values;
}

std::vector<double> reference_rewards(const ModelConfig& config, std::span<const double> parameters) {
  std::vector<double> values;
  for (const Tokens& response : kResponses)
    values.push_back(ReferenceTransformer(config).reward(parameters, joined(kPrompt, response)));
  return values;
}

std::vector<double> central_differences(std::span<const float> from,
                                        const std::function<double(std::span<const double>)>& function) {
  constexpr double kStep = 1e-5;
  std::vector<double> at(from.begin(), from.end()), result;
  for (double& value : at) {
    const double original = value;
    value = original + kStep;
    const double above = function(at);
    value = original - kStep;
    result.push_back((above - function(at)) / (2 * kStep));
    value = original;
  }
  return result;
}

double weighted(std::span<const float> weights, const std::vector<double>& values) {
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) sum += double{weights[i]} * values[i];
  return sum;
}

template <class Actual, class Expected>
void expect_near(const Actual& actual, const Expected& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  double largest = 1;
  for (const auto value : expected) largest = std::max(largest, std::abs(static_cast<double>(value)));
  for (std::size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(static_cast<double>(actual[i]), static_cast<double>(expected[i]), tolerance * largest)
        << "at " << i;
}

std::vector<float> log_probabilities(const Transformer& transformer, const Weights& weights,
                                     const Task& task) {
  Activations activations;
  TokenLogProbabilities head;
  transformer.forward(kStream, weights, task.batch, Keep::kNothing, activations);
  head.forward(kStream, transformer, weights, activations, task.targets, 1);
  return {head.values().begin(), head.values().end()};
}

class AdapterOfEveryModel : public ::testing::TestWithParam<testing::NamedConfig> {};
INSTANTIATE_TEST_SUITE_P(Family, AdapterOfEveryModel, ::testing::ValuesIn(testing::every_model(6)),
                         [](const auto& param) { return param.param.name; });

TEST_P(AdapterOfEveryModel, ComputesWhatTheMergedModelDoes) {
  const Adapted m(GetParam().config, {"all-linear"});
  const Task task;
  const auto unmerged = log_probabilities(m.transformer(), m.weights, task);
  expect_near(unmerged, reference_values(GetParam().config, m.merged()), 5e-6);
  Model merged = m.model;
  merge(kStream, m.transformer().layout(), m.layout, m.values, merged.parameters);
  expect_near(log_probabilities(merged.transformer, merged.weights(), task), unmerged, 1e-5);
  EXPECT_EQ(log_probabilities(m.transformer(), m.base, task),
            log_probabilities(m.transformer(), m.model.weights(), task))
      << "the base is as it was";
}

TEST_P(AdapterOfEveryModel, GradientIsThatOfCentralDifferences) {
  const Adapted m(GetParam().config, {"all-linear"});
  const Task task;
  Activations activations;
  TokenLogProbabilities head;
  std::vector<float> gradient(m.values.size());
  std::vector<float> d_hidden(
      static_cast<std::size_t>(task.batch.size() * m.transformer().config().hidden_size), 7.0f);
  m.transformer().forward(kStream, m.weights, task.batch, Keep::kEverything, activations);
  head.forward_backward(kStream, m.transformer(), m.weights, activations, task.targets, 1, task.loss_weight,
                        d_hidden, gradient);
  m.transformer().backward(kStream, m.weights, task.batch, activations, d_hidden, gradient);
  const auto loss = [&](std::span<const double> adapter) {
    return weighted(task.loss_weight, reference_values(GetParam().config, m.merged(adapter)));
  };
  expect_near(gradient, central_differences(m.values, loss), 1e-5);

  std::vector<float> again(m.values.size());
  m.transformer().forward(kStream, m.weights, task.batch, Keep::kBlockInputs, activations);
  head.forward_backward(kStream, m.transformer(), m.weights, activations, task.targets, 1, task.loss_weight,
                        d_hidden, again);
  m.transformer().backward(kStream, m.weights, task.batch, activations, d_hidden, again);
  EXPECT_EQ(again, gradient) << "blocks computed once more";
}

TEST_P(AdapterOfEveryModel, RewardsAndTheirGradientAreThoseOfTheReference) {
  ModelConfig config = GetParam().config;
  config.score_head = true;
  config.tie_word_embeddings = false;
  const Adapted m(config, {"all-linear"});
  const Task task;
  Activations activations, others;
  const auto expected = reference_rewards(config, m.merged());
  expect_near(m.transformer().score(kStream, m.weights, task.batch, task.last_rows, others), expected, 5e-6);

  const std::vector<float> d_reward = {0.5f, -1.25f};
  m.transformer().forward(kStream, m.weights, task.batch, Keep::kEverything, activations);
  expect_near(score_rows({}, m.transformer(), m.weights, activations, task.last_rows), expected, 5e-6);
  std::vector<float> gradient(m.values.size());
  std::vector<float> d_hidden(static_cast<std::size_t>(task.batch.size() * config.hidden_size), 7.0f);
  score_rows_backward({}, m.transformer(), m.weights, activations, task.last_rows, d_reward, d_hidden,
                      gradient);
  m.transformer().backward(kStream, m.weights, task.batch, activations, d_hidden, gradient);
  const auto loss = [&](std::span<const double> adapter) {
    return weighted(d_reward, reference_rewards(config, m.merged(adapter)));
  };
  expect_near(gradient, central_differences(m.values, loss), 1e-5);
}

TEST_P(AdapterOfEveryModel, SamplerAgreesWithTheTrainer) {
  const Adapted m(GetParam().config, {"all-linear"});
  const std::vector<Prompt> prompts = {{kPrompt, 3}};
  const SamplingSettings settings{.max_new_tokens = 12, .stop_tokens = {}};
  const auto response = Generator(m.transformer())
                            .generate(kStream, m.weights, prompts, 1, settings,
                                      {.seed = 5, .purpose = kernels::Purpose::kPolicy})[0][0];
  Task task;
  task.batch.clear();
  task.targets = {};
  const std::int32_t prompt = task.batch.add(kPrompt);
  task.targets.add_continuation(task.batch, task.batch.add(response.tokens, prompt));
  expect_near(log_probabilities(m.transformer(), m.weights, task), response.log_probabilities, 1e-5);
}

TEST(Adapter, OfSomeModulesLeavesTheOthers) {
  const ModelConfig config = testing::tiny_config();
  const Adapted m(config, {"q_proj", "v_proj", "mlp.down_proj"});
  EXPECT_THAT(m.layout.modules(),
              ::testing::ElementsAre("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"));
  const Task task;
  expect_near(log_probabilities(m.transformer(), m.weights, task), reference_values(config, m.merged()),
              5e-6);
  std::vector<float> gradient(m.values.size());
  std::vector<float> d_hidden(static_cast<std::size_t>(task.batch.size() * config.hidden_size));
  Activations activations;
  TokenLogProbabilities head;
  m.transformer().forward(kStream, m.weights, task.batch, Keep::kEverything, activations);
  head.forward_backward(kStream, m.transformer(), m.weights, activations, task.targets, 1, task.loss_weight,
                        d_hidden, gradient);
  m.transformer().backward(kStream, m.weights, task.batch, activations, d_hidden, gradient);
  const auto loss = [&](std::span<const double> adapter) {
    return weighted(task.loss_weight, reference_values(config, m.merged(adapter)));
  };
  expect_near(gradient, central_differences(m.values, loss), 1e-5);
}

TEST(Adapter, ItsBufferIsFilledByPeftsTensors) {
  ModelConfig config = testing::tiny_config();  // C 8, F 10, 4 heads (2 for k and v) of 6
  config.score_head = true;
  const AdapterLayout layout(config, {3, 6, {"q_proj", "v_proj", "down_proj"}});
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
  ModelConfig config = testing::tiny_config();
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
  const Task task;
  EXPECT_EQ(log_probabilities(model.transformer, adapted, task),
            log_probabilities(model.transformer, base, task));
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
  ModelConfig config = testing::tiny_config();
  config.score_head = true;
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
