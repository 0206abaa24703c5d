// Small batches of prompts with their responses, and passes of a model over them, whichever way its weights
// are held.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/model/narrow_parameters.h"
#include "core/model/test_models.h"
#include "core/model/transformer.h"

namespace infalign::model::testing {

inline const kernels::Stream kStream;

inline NarrowParameters frozen_of(const Model& model) {
  const ParameterLayout& layout = model.transformer.layout();
  NarrowParameters frozen(layout);
  for (const ParameterView& view : layout.views())
    frozen.set(kStream, view,
               std::span(model.parameters)
                   .subspan(static_cast<std::size_t>(view.offset), static_cast<std::size_t>(view.size)));
  return frozen;
}

/// A prompt with the responses that share it.
struct Tree {
  Tokens prompt;
  std::vector<Tokens> responses;
};

inline const std::vector<Tree> kOneTree = {{{1, 5, 2, 9, 8}, {{3, 3, 12, 0, 7, 1}, {4, 6}}}};

/// Weights of a sum in which no two terms count alike.
inline std::vector<float> uneven_weights(std::int64_t count) {
  std::vector<float> weights;
  for (std::int64_t i = 0; i < count; ++i)
    weights.push_back(static_cast<float>(std::sin(1.0 + 2.3 * static_cast<double>(i))));
  return weights;
}

/// Each prompt once, its responses behind it; their tokens are the targets.
struct Task {
  std::vector<Tree> trees;
  float temperature;
  PackedBatch batch;
  Targets targets;
  std::vector<std::int32_t> last_rows;  // of the responses
  std::vector<float> loss_weight;       // loss = sum of loss_weight[i] log p(target i)

  explicit Task(std::vector<Tree> of = kOneTree, float at = 1) : trees(std::move(of)), temperature(at) {
    for (const auto& [prompt, responses] : trees) {
      const std::int32_t prefix = batch.add(prompt);
      for (const Tokens& response : responses) {
        targets.add_continuation(batch, batch.add(response, prefix));
        last_rows.push_back(static_cast<std::int32_t>(batch.size()) - 1);
      }
    }
    loss_weight = uneven_weights(targets.size());
  }
};

inline std::vector<float> log_probabilities(const Transformer& transformer, const Weights& weights,
                                            const Task& task = Task(), Keep keep = Keep::kNothing) {
  Activations activations;
  TokenLogProbabilities head;
  transformer.forward(kStream, weights, task.batch, keep, activations);
  head.forward(kStream, transformer, weights, activations, task.targets, task.temperature);
  return {head.values().begin(), head.values().end()};
}

inline std::vector<float> log_probabilities(const Model& model, const Task& task = Task(),
                                            Keep keep = Keep::kNothing) {
  return log_probabilities(model.transformer, model.weights(), task, keep);
}

/// Adds the gradient of the task's loss.
inline void add_gradient(const Transformer& transformer, const Weights& weights, const Task& task, Keep keep,
                         std::span<float> gradient) {
  Activations activations;
  TokenLogProbabilities head;
  std::vector<float> d_hidden(static_cast<std::size_t>(task.batch.size() * transformer.config().hidden_size),
                              7.0f);
  transformer.forward(kStream, weights, task.batch, keep, activations);
  head.forward_backward(kStream, transformer, weights, activations, task.targets, task.temperature,
                        task.loss_weight, d_hidden, gradient);
  transformer.backward(kStream, weights, task.batch, activations, d_hidden, gradient);
}

/// Of the parameters that are trained, `size` in number.
inline std::vector<float> gradient(const Transformer& transformer, const Weights& weights, std::int64_t size,
                                   const Task& task = Task(), Keep keep = Keep::kEverything) {
  std::vector<float> sum(static_cast<std::size_t>(size));
  add_gradient(transformer, weights, task, keep, sum);
  return sum;
}

inline std::vector<float> gradient(const Model& model, const Task& task = Task(),
                                   Keep keep = Keep::kEverything) {
  return gradient(model.transformer, model.weights(), model.transformer.layout().size(), task, keep);
}

/// The responses' rewards by a pass that keeps nothing.
inline std::vector<float> rewards(const Transformer& transformer, const Weights& weights,
                                  const Task& task = Task()) {
  Activations activations;
  return transformer.score(kStream, weights, task.batch, task.last_rows, activations);
}

/// The responses' rewards by a pass that keeps everything, and the gradient of the sum of d_reward[i] reward
/// i.
struct RewardsWithGradient {
  std::vector<float> rewards, gradient;
};

inline RewardsWithGradient rewards_with_gradient(const Transformer& transformer, const Weights& weights,
                                                 std::int64_t size, std::span<const float> d_reward,
                                                 const Task& task = Task()) {
  Activations activations;
  std::vector<float> sum(static_cast<std::size_t>(size));
  std::vector<float> d_hidden(static_cast<std::size_t>(task.batch.size() * transformer.config().hidden_size),
                              7.0f);
  transformer.forward(kStream, weights, task.batch, Keep::kEverything, activations);
  auto values = score_rows(kStream, transformer, weights, activations, task.last_rows);
  score_rows_backward(kStream, transformer, weights, activations, task.last_rows, d_reward, d_hidden, sum);
  transformer.backward(kStream, weights, task.batch, activations, d_hidden, sum);
  return {std::move(values), std::move(sum)};
}

/// Within `tolerance` of the largest of the expected values, or of 1.
template <class Value>
void expect_near(std::span<const float> actual, const std::vector<Value>& expected, double tolerance,
                 const char* what = "") {
  ASSERT_EQ(actual.size(), expected.size());
  double largest = 1;
  for (const Value value : expected) largest = std::max(largest, std::abs(static_cast<double>(value)));
  for (std::size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(static_cast<double>(actual[i]), static_cast<double>(expected[i]), tolerance * largest)
        << what << " at " << i;
}

}  // namespace infalign::model::testing
