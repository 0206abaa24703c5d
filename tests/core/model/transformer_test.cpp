// The whole model against a float64 program of its own: log-probabilities, rewards and, by central
// differences, every single gradient; and the promises about shared prefixes, accumulation and errors.
#include "core/model/transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iterator>
#include <stdexcept>

#include "core/model/passes.h"
#include "core/model/reference_passes.h"
#include "core/model/test_models.h"

namespace infalign::model {
namespace {

using testing::central_differences;
using testing::expect_near;
using testing::gradient;
using testing::in_float64;
using testing::kStream;
using testing::log_probabilities;
using testing::Model;
using testing::reference_log_probabilities;
using testing::reference_rewards;
using testing::Task;
using testing::Tokens;
using testing::weighted_sum;

const std::vector<testing::Tree> kTrees = {
    {{1, 5, 2, 9}, {{3, 3, 12, 0, 7}, {3, 1}, {11}}},
    {{8}, {{4, 6, 10}, {0, 4, 6, 10, 2, 2}}},
    {{2, 7, 7}, {}},
};

/// Task(kTrees) with the prompts repeated before each of their responses.
Task unshared() {
  Task task({}, 1);
  for (const auto& [prompt, responses] : kTrees) {
    if (responses.empty()) task.batch.add(prompt);
    for (const Tokens& response : responses) {
      const auto first = static_cast<std::int32_t>(task.batch.size() + std::ssize(prompt)) - 1;
      task.batch.add(testing::joined(prompt, response));
      for (std::size_t i = 0; i < response.size(); ++i) {
        task.targets.rows.push_back(first + static_cast<std::int32_t>(i));
        task.targets.tokens.push_back(response[i]);
      }
    }
  }
  task.loss_weight = testing::uneven_weights(task.targets.size());
  return task;
}

class TiedOrNot : public ::testing::TestWithParam<bool> {
 protected:
  static Model model() {
    ModelConfig config = testing::tiny_config();
    config.tie_word_embeddings = GetParam();
    return testing::random_model(config, 7);
  }
};
INSTANTIATE_TEST_SUITE_P(Head, TiedOrNot, ::testing::Values(false, true),
                         [](const auto& param) { return param.param ? "tied" : "untied"; });

TEST_P(TiedOrNot, LogProbabilitiesAreThoseOfTheReference) {
  const Model m = model();
  for (const float temperature : {1.0f, 0.7f}) {
    const Task task(kTrees, temperature);
    expect_near(log_probabilities(m, task),
                reference_log_probabilities(m.transformer.config(), in_float64(m.parameters), task), 5e-6);
  }
}

TEST_P(TiedOrNot, GradientIsThatOfCentralDifferences) {
  const Model m = model();
  const Task task(kTrees, 0.7f);
  const auto loss = [&](std::span<const double> parameters) {
    return weighted_sum(task.loss_weight,
                        reference_log_probabilities(m.transformer.config(), parameters, task));
  };
  expect_near(gradient(m, task), central_differences(m.parameters, loss), 1e-5);
}

TEST_P(TiedOrNot, SharingAPrefixChangesNothing) {
  const Model m = model();
  expect_near(log_probabilities(m, Task(kTrees)), log_probabilities(m, unshared()), 2e-6);
  expect_near(gradient(m, Task(kTrees)), gradient(m, unshared()), 5e-6);
}

TEST(Transformer, RewardsAndTheirGradientAreThoseOfTheReference) {
  const ModelConfig config = testing::with_score_head(testing::tiny_config());
  const Model m = testing::random_model(config, 3);
  const Task task(kTrees);
  const std::vector<float> d_reward = {0.5f, -1.0f, 0.25f, 2.0f, -0.125f};
  ASSERT_EQ(d_reward.size(), task.last_rows.size());

  const auto expected = reference_rewards(config, in_float64(m.parameters), task);
  const auto [rewards, gradient] = testing::rewards_with_gradient(
      m.transformer, m.weights(), m.transformer.layout().size(), d_reward, task);
  expect_near(rewards, expected, 2e-6);
  expect_near(testing::rewards(m.transformer, m.weights(), task), expected, 2e-6);
  const auto loss = [&](std::span<const double> parameters) {
    return weighted_sum(d_reward, reference_rewards(config, parameters, task));
  };
  expect_near(gradient, central_differences(m.parameters, loss), 1e-5);
}

TEST(Transformer, BackwardAddsToTheGradient) {
  const Model m = testing::random_model(testing::tiny_config(), 1);
  const Task task(kTrees);
  const std::vector<float> once = gradient(m, task);
  std::vector<float> twice = once;
  testing::add_gradient(m.transformer, m.weights(), task, Keep::kEverything, twice);
  std::vector<float> expected = once;
  for (float& value : expected) value *= 2;
  expect_near(twice, expected, 1e-6);
}

TEST(Transformer, WhatIsKeptDoesNotChangeTheResult) {
  const Model m = testing::random_model(testing::tiny_config(), 1);
  const Task task(kTrees);
  const auto nothing = log_probabilities(m, task, Keep::kNothing);
  EXPECT_EQ(nothing, log_probabilities(m, task, Keep::kKeysValues));
  EXPECT_EQ(nothing, log_probabilities(m, task, Keep::kEverything));
}

TEST(Transformer, ActivationsAreReusedByBatchesOfAnySize) {
  const Model m = testing::random_model(testing::tiny_config(), 1);
  const auto run = [&](Activations& activations, const Tokens& sequence, Keep keep) {
    PackedBatch batch;
    batch.add(sequence);
    m.transformer.forward(kStream, m.weights(), batch, keep, activations);
    const auto values = static_cast<std::int64_t>(sequence.size()) * m.transformer.config().hidden_size;
    return std::vector<float>(activations.hidden(), activations.hidden() + values);
  };
  Activations reused, fresh_long, fresh_short;
  const Tokens long_one = {1, 2, 3, 4, 5, 6, 7, 8}, short_one = {4, 4};
  run(reused, short_one, Keep::kNothing);
  EXPECT_EQ(run(reused, long_one, Keep::kEverything), run(fresh_long, long_one, Keep::kEverything));
  EXPECT_EQ(run(reused, short_one, Keep::kNothing), run(fresh_short, short_one, Keep::kNothing));
}

TEST(Transformer, InverseFrequenciesAreFloat32Powers) {
  ModelConfig config = testing::tiny_config();
  config.head_dim = 8;
  config.rope_theta = 10000.0f;
  EXPECT_THAT(Transformer(config).inverse_frequency(), ::testing::ElementsAre(1.0f, 0.1f, 0.01f, 0.001f));
}

TEST(Transformer, AnEmptyBatchOrNoTargetsAreNoWork) {
  const Model m = testing::random_model(testing::tiny_config(), 1);
  Task task(kTrees);
  task.targets = {};
  task.loss_weight = {};
  EXPECT_THAT(gradient(m, task), ::testing::Each(0.0f));
  task.batch.clear();
  EXPECT_THAT(gradient(m, task), ::testing::Each(0.0f));
}

TEST(Transformer, RefusesTokensAndPositionsItDoesNotHave) {
  const Model m = testing::random_model(testing::tiny_config(), 1);
  Activations activations;
  const auto forward = [&](const Tokens& tokens) {
    PackedBatch batch;
    batch.add(tokens);
    m.transformer.forward(kStream, m.weights(), batch, Keep::kNothing, activations);
  };
  EXPECT_NO_THROW(forward(Tokens(32, 12)));
  EXPECT_THROW(forward({13}), std::invalid_argument);
  EXPECT_THROW(forward({-1}), std::invalid_argument);
  EXPECT_THROW(forward(Tokens(33, 0)), std::invalid_argument);
}

TEST(Transformer, RefusesMisuse) {
  const Model m = testing::random_model(testing::tiny_config(), 1);
  const Task task(kTrees);
  Activations activations;
  std::vector<float> d_hidden(static_cast<std::size_t>(task.batch.size() * 8)), sum(m.parameters.size());
  m.transformer.forward(kStream, m.weights(), task.batch, Keep::kNothing, activations);
  EXPECT_THROW(activations.qkv(0), std::logic_error);
  EXPECT_THROW(m.transformer.backward(kStream, m.weights(), task.batch, activations, d_hidden, sum),
               std::logic_error);
  EXPECT_THROW(score_rows({}, m.transformer, m.weights(), activations, std::vector<std::int32_t>{0}),
               std::logic_error);
}

}  // namespace
}  // namespace infalign::model
