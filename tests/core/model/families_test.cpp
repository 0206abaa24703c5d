// Every family, and features in combinations that no family has, against the float64 program:
// log-probabilities, rewards, every single gradient by central differences, and the agreement of decoding
// with training.
#include "core/model/families.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "core/model/generation.h"
#include "core/model/reference_transformer.h"
#include "core/model/test_models.h"
#include "core/model/tiny_families.h"
#include "core/model/transformer.h"

namespace infalign::model {
namespace {

using testing::Model;
using testing::ReferenceTransformer;
using Tokens = std::vector<std::int32_t>;

const kernels::Stream kStream;
const Tokens kPrompt = {1, 5, 2, 9, 8};
const std::vector<Tokens> kResponses = {{3, 3, 12, 0, 7, 1}, {4, 6}};

Tokens joined(const Tokens& a, const Tokens& b) {
  Tokens result = a;
  result.insert(result.end(), b.begin(), b.end());
  return result;
}

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

std::vector<double> reference_log_probabilities(const ModelConfig& config, std::span<const double> parameters,
                                                double temperature) {
  std::vector<double> values;
  for (const Tokens& response : kResponses) {
    const auto table =
        ReferenceTransformer(config).log_probabilities(parameters, joined(kPrompt, response), temperature);
    for (std::size_t i = 0; i < response.size(); ++i)
      values.push_back(table[kPrompt.size() - 1 + i][static_cast<std::size_t>(response[i])]);
  }
  return values;
}

std::vector<double> in_float64(const Model& model) {
  return {model.parameters.begin(), model.parameters.end()};
}

template <class Actual>
void expect_near(const Actual& actual, const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  double largest = 1;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(static_cast<double>(actual[i]), expected[i], tolerance * largest) << "at " << i;
}

class EveryModel : public ::testing::TestWithParam<testing::NamedConfig> {
 protected:
  Model model() const { return testing::random_model(GetParam().config, 7); }
  Model reward_model() const {
    ModelConfig config = GetParam().config;
    config.score_head = true;
    config.tie_word_embeddings = false;
    return testing::random_model(config, 9);
  }
};
INSTANTIATE_TEST_SUITE_P(Family, EveryModel, ::testing::ValuesIn(testing::every_model(24)),
                         [](const auto& param) { return param.param.name; });

TEST_P(EveryModel, LogProbabilitiesAreThoseOfTheReferenceWhateverIsKept) {
  const Model m = model();
  const Task task;
  const auto expected = reference_log_probabilities(m.transformer.config(), in_float64(m), 0.7);
  for (const Keep keep : {Keep::kNothing, Keep::kKeysValues, Keep::kBlockInputs, Keep::kEverything}) {
    Activations activations;
    TokenLogProbabilities head;
    m.transformer.forward(kStream, m.weights(), task.batch, keep, activations);
    head.forward(kStream, m.transformer, m.weights(), activations, task.targets, 0.7f);
    expect_near(head.values(), expected, 5e-6);
  }
}

TEST_P(EveryModel, GradientIsThatOfCentralDifferences) {
  const Model m = model();
  const Task task;
  Activations activations;
  TokenLogProbabilities head;
  std::vector<float> gradient(m.parameters.size());
  std::vector<float> d_hidden(
      static_cast<std::size_t>(task.batch.size() * m.transformer.config().hidden_size), 7.0f);
  m.transformer.forward(kStream, m.weights(), task.batch, Keep::kEverything, activations);
  head.forward_backward(kStream, m.transformer, m.weights(), activations, task.targets, 1, task.loss_weight,
                        d_hidden, gradient);
  m.transformer.backward(kStream, m.weights(), task.batch, activations, d_hidden, gradient);

  const auto loss = [&](std::span<const double> parameters) {
    const auto values = reference_log_probabilities(m.transformer.config(), parameters, 1);
    double sum = 0;
    for (std::size_t i = 0; i < values.size(); ++i) sum += double{task.loss_weight[i]} * values[i];
    return sum;
  };
  constexpr double kStep = 1e-5;
  std::vector<double> at = in_float64(m), expected;
  for (double& value : at) {
    const double original = value;
    value = original + kStep;
    const double above = loss(at);
    value = original - kStep;
    expected.push_back((above - loss(at)) / (2 * kStep));
    value = original;
  }
  expect_near(gradient, expected, 1e-5);
}

TEST_P(EveryModel, ComputingBlocksAgainGivesTheSameBits) {
  const Model m = model();
  const Task task;
  const auto gradient_with = [&](Keep keep) {
    Activations activations;
    TokenLogProbabilities head;
    std::vector<float> gradient(m.parameters.size());
    std::vector<float> d_hidden(
        static_cast<std::size_t>(task.batch.size() * m.transformer.config().hidden_size));
    m.transformer.forward(kStream, m.weights(), task.batch, keep, activations);
    head.forward_backward(kStream, m.transformer, m.weights(), activations, task.targets, 1, task.loss_weight,
                          d_hidden, gradient);
    m.transformer.backward(kStream, m.weights(), task.batch, activations, d_hidden, gradient);
    return gradient;
  };
  EXPECT_EQ(gradient_with(Keep::kBlockInputs), gradient_with(Keep::kEverything));
}

TEST_P(EveryModel, RewardsAreThoseOfTheReference) {
  const Model m = reward_model();
  const Task task;
  std::vector<double> expected;
  for (const Tokens& response : kResponses)
    expected.push_back(
        ReferenceTransformer(m.transformer.config()).reward(in_float64(m), joined(kPrompt, response)));
  Activations activations, others;
  expect_near(m.transformer.score(kStream, m.weights(), task.batch, task.last_rows, activations), expected,
              5e-6);
  m.transformer.forward(kStream, m.weights(), task.batch, Keep::kEverything, others);
  expect_near(score_rows({}, m.transformer, m.weights(), others, task.last_rows), expected, 5e-6);
}

// Decoding carries keys and values in its caches; what it says of its tokens is what the reference says.
TEST_P(EveryModel, SamplerAgreesWithTheReference) {
  const Model m = model();
  const std::vector<Prompt> prompts = {{kPrompt, 3}, {{4}, 5}};
  const SamplingSettings settings{.temperature = 0.7f, .max_new_tokens = 12, .stop_tokens = {}};
  const auto all = Generator(m.transformer)
                       .generate(kStream, m.weights(), prompts, 2, settings,
                                 {.seed = 5, .purpose = kernels::Purpose::kPolicy});
  const ReferenceTransformer reference(m.transformer.config());
  for (std::size_t p = 0; p < prompts.size(); ++p)
    for (const Response& response : all[p]) {
      const auto table =
          reference.log_probabilities(in_float64(m), joined(prompts[p].tokens, response.tokens), 0.7);
      std::vector<double> expected;
      for (std::size_t i = 0; i < response.tokens.size(); ++i)
        expected.push_back(
            table[prompts[p].tokens.size() - 1 + i][static_cast<std::size_t>(response.tokens[i])]);
      expect_near(response.log_probabilities, expected, 1e-5);
    }
}

TEST_P(EveryModel, ViewsHaveNamesAndFillTheBuffer) {
  const ModelConfig& config = GetParam().config;
  const ParameterLayout layout(config);
  std::int64_t at = 0;
  for (const ParameterView& view : layout.views()) {
    EXPECT_EQ(view.offset, at) << view.name;
    EXPECT_THAT(view.name, ::testing::Not(::testing::HasSubstr(".."))) << "a part without a name";
    at += view.size;
  }
  EXPECT_EQ(layout.size(), at);
}

TEST_P(EveryModel, FreshNormsAndBiasesChangeNothing) {
  const ModelConfig& config = GetParam().config;
  const ParameterLayout layout(config);
  std::vector<float> parameters(static_cast<std::size_t>(layout.size()), 7.0f);
  initialise(config, layout, 1, parameters);
  for (const ParameterView& view : layout.views()) {
    const std::span<const float> values(parameters.data() + view.offset, static_cast<std::size_t>(view.size));
    if (view.role == Role::kNormWeight) {
      EXPECT_THAT(values, ::testing::Each(config.norm == Norm::kRmsPlusOne ? 0.0f : 1.0f)) << view.name;
    } else if (view.role == Role::kHeadNormWeight) {
      EXPECT_THAT(values, ::testing::Each(1.0f)) << view.name;
    } else if (view.role == Role::kBias) {
      EXPECT_THAT(values, ::testing::Each(0.0f)) << view.name;
    } else {
      EXPECT_THAT(values, ::testing::Each(::testing::Ne(7.0f))) << view.name;
    }
  }
}

}  // namespace
}  // namespace infalign::model
