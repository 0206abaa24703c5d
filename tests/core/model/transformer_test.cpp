// The whole model against a float64 program of its own: log-probabilities, rewards and, by central
// differences, every single gradient; and the promises about shared prefixes, accumulation and errors.
#include "core/model/transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <stdexcept>

#include "core/model/reference_transformer.h"
#include "core/model/test_models.h"

namespace infalign::model {
namespace {

using testing::Model;
using testing::ReferenceTransformer;
using Tokens = std::vector<std::int32_t>;

const kernels::Stream kStream;

/// Prompts with the responses that share them.
struct Tree {
  Tokens prompt;
  std::vector<Tokens> responses;
};

const std::vector<Tree> kTrees = {
    {{1, 5, 2, 9}, {{3, 3, 12, 0, 7}, {3, 1}, {11}}},
    {{8}, {{4, 6, 10}, {0, 4, 6, 10, 2, 2}}},
    {{2, 7, 7}, {}},
};

Tokens joined(const Tokens& a, const Tokens& b) {
  Tokens result = a;
  result.insert(result.end(), b.begin(), b.end());
  return result;
}

/// A batch of kTrees and its targets, all tokens of all responses, the prompts' prefixes shared or repeated.
struct Task {
  explicit Task(bool shared) {
    for (const Tree& tree : kTrees) {
      const std::int32_t prompt = shared || tree.responses.empty() ? batch.add(tree.prompt) : -1;
      for (const Tokens& response : tree.responses) {
        if (shared) {
          targets.add_continuation(batch, batch.add(response, prompt));
        } else {
          const std::int32_t segment = batch.add(joined(tree.prompt, response));
          const std::int32_t first = batch.segments[static_cast<std::size_t>(segment)].begin +
                                     static_cast<std::int32_t>(tree.prompt.size()) - 1;
          for (std::size_t i = 0; i < response.size(); ++i) {
            targets.rows.push_back(first + static_cast<std::int32_t>(i));
            targets.tokens.push_back(response[i]);
          }
        }
      }
    }
    for (std::int64_t i = 0; i < targets.size(); ++i) {
      loss_weight.push_back(static_cast<float>(std::sin(1.0 + 2.3 * static_cast<double>(i))));
    }
  }
  PackedBatch batch;
  Targets targets;
  std::vector<float> loss_weight;  // loss = sum of loss_weight[i] * log p(target i)
};

std::vector<float> log_probabilities(const Model& model, const Task& task, float temperature,
                                     Keep keep = Keep::kNothing) {
  Activations activations;
  TokenLogProbabilities head;
  model.transformer.forward(kStream, model.weights(), task.batch, keep, activations);
  head.forward(kStream, model.transformer, model.weights(), activations, task.targets, temperature);
  return {head.values().begin(), head.values().end()};
}

/// Adds the gradient of the task's loss.
void add_gradient(const Model& model, const Task& task, float temperature, std::vector<float>& gradient) {
  Activations activations;
  TokenLogProbabilities head;
  model.transformer.forward(kStream, model.weights(), task.batch, Keep::kEverything, activations);
  std::vector<float> d_hidden(
      static_cast<std::size_t>(task.batch.size() * model.transformer.config().hidden_size), 7.0f);
  head.forward_backward(kStream, model.transformer, model.weights(), activations, task.targets, temperature,
                        task.loss_weight, d_hidden, gradient);
  model.transformer.backward(kStream, model.weights(), task.batch, activations, d_hidden, gradient);
}

std::vector<float> gradient_of(const Model& model, const Task& task, float temperature) {
  std::vector<float> gradient(model.parameters.size());
  add_gradient(model, task, temperature, gradient);
  return gradient;
}

std::vector<double> reference_log_probabilities(const ModelConfig& config, std::span<const double> parameters,
                                                double temperature) {
  std::vector<double> values;
  for (const Tree& tree : kTrees) {
    for (const Tokens& response : tree.responses) {
      const auto table = ReferenceTransformer(config).log_probabilities(
          parameters, joined(tree.prompt, response), temperature);
      for (std::size_t i = 0; i < response.size(); ++i) {
        values.push_back(table[tree.prompt.size() - 1 + i][static_cast<std::size_t>(response[i])]);
      }
    }
  }
  return values;
}

std::vector<double> central_differences(std::vector<double> at,
                                        const std::function<double(std::span<const double>)>& function) {
  constexpr double kStep = 1e-5;
  std::vector<double> result;
  for (double& value : at) {
    const double original = value;
    value = original + kStep;
    const double above = function(at);
    value = original - kStep;
    const double below = function(at);
    value = original;
    result.push_back((above - below) / (2 * kStep));
  }
  return result;
}

template <class Value>
void expect_near(const std::vector<float>& actual, const std::vector<Value>& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  double largest = 1;
  for (const Value value : expected) largest = std::max(largest, std::abs(static_cast<double>(value)));
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], tolerance * largest) << "at " << i;
  }
}

std::vector<double> in_float64(const Model& model) {
  return {model.parameters.begin(), model.parameters.end()};
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
    const auto expected = reference_log_probabilities(m.transformer.config(), in_float64(m), temperature);
    expect_near(log_probabilities(m, Task(true), temperature), expected, 5e-6);
  }
}

TEST_P(TiedOrNot, GradientIsThatOfCentralDifferences) {
  const Model m = model();
  const Task task(true);
  const float temperature = 0.7f;
  const auto loss = [&](std::span<const double> parameters) {
    const auto values = reference_log_probabilities(m.transformer.config(), parameters, temperature);
    double sum = 0;
    for (std::size_t i = 0; i < values.size(); ++i) sum += double{task.loss_weight[i]} * values[i];
    return sum;
  };
  expect_near(gradient_of(m, task, temperature), central_differences(in_float64(m), loss), 1e-5);
}

TEST_P(TiedOrNot, SharingAPrefixChangesNothing) {
  const Model m = model();
  expect_near(log_probabilities(m, Task(true), 1), log_probabilities(m, Task(false), 1), 2e-6);
  expect_near(gradient_of(m, Task(true), 1), gradient_of(m, Task(false), 1), 5e-6);
}

TEST(Transformer, RewardsAndTheirGradientAreThoseOfTheReference) {
  ModelConfig config = testing::tiny_config();
  config.score_head = true;
  const Model m = testing::random_model(config, 3);
  PackedBatch batch;
  std::vector<Tokens> sequences;
  std::vector<std::int32_t> rows;
  for (const Tree& tree : kTrees) {
    const std::int32_t prompt = batch.add(tree.prompt);
    for (const Tokens& response : tree.responses) {
      sequences.push_back(joined(tree.prompt, response));
      batch.add(response, prompt);
      rows.push_back(static_cast<std::int32_t>(batch.size()) - 1);
    }
  }
  const std::vector<float> d_reward = {0.5f, -1.0f, 0.25f, 2.0f, -0.125f};
  ASSERT_EQ(d_reward.size(), rows.size());

  Activations activations;
  m.transformer.forward(kStream, m.weights(), batch, Keep::kEverything, activations);
  std::vector<double> expected;
  for (const Tokens& sequence : sequences) {
    expected.push_back(ReferenceTransformer(config).reward(in_float64(m), sequence));
  }
  expect_near(score_rows({}, m.transformer, m.weights(), activations, rows), expected, 2e-6);
  Activations others;
  expect_near(m.transformer.score(kStream, m.weights(), batch, rows, others), expected, 2e-6);

  std::vector<float> gradient(m.parameters.size());
  std::vector<float> d_hidden(static_cast<std::size_t>(batch.size() * config.hidden_size), 7.0f);
  score_rows_backward({}, m.transformer, m.weights(), activations, rows, d_reward, d_hidden, gradient);
  m.transformer.backward(kStream, m.weights(), batch, activations, d_hidden, gradient);
  const auto loss = [&](std::span<const double> parameters) {
    double sum = 0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      sum += double{d_reward[i]} * ReferenceTransformer(config).reward(parameters, sequences[i]);
    }
    return sum;
  };
  expect_near(gradient, central_differences(in_float64(m), loss), 1e-5);
}

TEST(Transformer, BackwardAddsToTheGradient) {
  const Model m = testing::random_model(testing::tiny_config(), 1);
  const std::vector<float> once = gradient_of(m, Task(true), 1);
  std::vector<float> twice = once;
  add_gradient(m, Task(true), 1, twice);
  std::vector<float> expected = once;
  for (float& value : expected) value *= 2;
  expect_near(twice, expected, 1e-6);
}

TEST(Transformer, WhatIsKeptDoesNotChangeTheResult) {
  const Model m = testing::random_model(testing::tiny_config(), 1);
  const auto nothing = log_probabilities(m, Task(true), 1, Keep::kNothing);
  EXPECT_EQ(nothing, log_probabilities(m, Task(true), 1, Keep::kKeysValues));
  EXPECT_EQ(nothing, log_probabilities(m, Task(true), 1, Keep::kEverything));
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
  Task task(true);
  task.targets = {};
  task.loss_weight = {};
  EXPECT_THAT(gradient_of(m, task, 1), ::testing::Each(0.0f));
  task.batch.clear();
  EXPECT_THAT(gradient_of(m, task, 1), ::testing::Each(0.0f));
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
  const Task task(true);
  Activations activations;
  std::vector<float> d_hidden(static_cast<std::size_t>(task.batch.size() * 8)), gradient(m.parameters.size());
  m.transformer.forward(kStream, m.weights(), task.batch, Keep::kNothing, activations);
  EXPECT_THROW(activations.qkv(0), std::logic_error);
  EXPECT_THROW(m.transformer.backward(kStream, m.weights(), task.batch, activations, d_hidden, gradient),
               std::logic_error);
  EXPECT_THROW(score_rows({}, m.transformer, m.weights(), activations, std::vector<std::int32_t>{0}),
               std::logic_error);
}

}  // namespace
}  // namespace infalign::model
