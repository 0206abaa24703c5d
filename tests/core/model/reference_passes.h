// What the passes of passes.h should compute, by the float64 program.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "core/model/passes.h"
#include "core/model/reference_transformer.h"

namespace infalign::model::testing {

inline std::vector<double> in_float64(std::span<const float> values) {
  return {values.begin(), values.end()};
}

/// Of every token of the task's responses.
inline std::vector<double> reference_log_probabilities(const ModelConfig& config,
                                                       std::span<const double> parameters, const Task& task) {
  const ReferenceTransformer reference(config);
  std::vector<double> values;
  for (const auto& [prompt, responses] : task.trees)
    for (const Tokens& response : responses) {
      const auto table =
          reference.log_probabilities(parameters, joined(prompt, response), double{task.temperature});
      for (std::size_t i = 0; i < response.size(); ++i)
        values.push_back(table[prompt.size() - 1 + i][static_cast<std::size_t>(response[i])]);
    }
  return values;
}

/// Of the task's responses.
inline std::vector<double> reference_rewards(const ModelConfig& config, std::span<const double> parameters,
                                             const Task& task = Task()) {
  const ReferenceTransformer reference(config);
  std::vector<double> values;
  for (const auto& [prompt, responses] : task.trees)
    for (const Tokens& response : responses)
      values.push_back(reference.reward(parameters, joined(prompt, response)));
  return values;
}

inline double weighted_sum(std::span<const float> weights, const std::vector<double>& values) {
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) sum += double{weights[i]} * values[i];
  return sum;
}

/// The gradient of the function, a value at a time.
inline std::vector<double> central_differences(
    std::span<const float> from, const std::function<double(std::span<const double>)>& function) {
  constexpr double kStep = 1e-5;
  std::vector<double> at = in_float64(from), result;
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

}  // namespace infalign::model::testing
