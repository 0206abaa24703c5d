// One small batch through a model, whichever way its weights are held.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "core/model/frozen_parameters.h"
#include "core/model/test_models.h"
#include "core/model/transformer.h"

namespace infalign::model::testing {

inline const kernels::Stream kStream;

inline FrozenParameters frozen_of(const Model& model) {
  const ParameterLayout& layout = model.transformer.layout();
  FrozenParameters frozen(layout);
  for (const ParameterView& view : layout.views())
    frozen.set(kStream, view,
               std::span(model.parameters)
                   .subspan(static_cast<std::size_t>(view.offset), static_cast<std::size_t>(view.size)));
  return frozen;
}

/// Two responses to one prompt, and what each of their tokens counts in a loss.
struct Task {
  PackedBatch batch;
  Targets targets;
  std::vector<float> loss_weight;
  Task() {
    const std::int32_t prompt = batch.add(std::vector<std::int32_t>{1, 5, 2, 9, 8});
    targets.add_continuation(batch, batch.add(std::vector<std::int32_t>{3, 3, 12, 0, 7, 1}, prompt));
    targets.add_continuation(batch, batch.add(std::vector<std::int32_t>{4, 6}, prompt));
    for (std::int64_t i = 0; i < targets.size(); ++i)
      loss_weight.push_back(static_cast<float>(std::sin(1.0 + 2.3 * static_cast<double>(i))));
  }
};

inline std::vector<float> log_probabilities(const Transformer& transformer, const Weights& weights) {
  const Task task;
  Activations activations;
  TokenLogProbabilities head;
  transformer.forward(kStream, weights, task.batch, Keep::kNothing, activations);
  head.forward(kStream, transformer, weights, activations, task.targets, 1);
  return {head.values().begin(), head.values().end()};
}

inline std::vector<float> gradient(const Transformer& transformer, const Weights& weights, std::int64_t size,
                                   Keep keep = Keep::kEverything) {
  const Task task;
  Activations activations;
  TokenLogProbabilities head;
  std::vector<float> sum(static_cast<std::size_t>(size));
  std::vector<float> d_hidden(static_cast<std::size_t>(task.batch.size() * transformer.config().hidden_size));
  transformer.forward(kStream, weights, task.batch, keep, activations);
  head.forward_backward(kStream, transformer, weights, activations, task.targets, 1, task.loss_weight,
                        d_hidden, sum);
  transformer.backward(kStream, weights, task.batch, activations, d_hidden, sum);
  return sum;
}

}  // namespace infalign::model::testing
