// What stands on top of the decoder: the language-model head at chosen rows and the score head of a reward
// model, with their gradients back to the hidden states.
#include <algorithm>
#include <stdexcept>

#include "core/model/transformer.h"
#include "kernels/head/head.h"

namespace infalign::model {
namespace {

float* row_of(float* rows, std::int32_t row, std::int64_t C) { return rows + row * C; }
const float* row_of(const float* rows, std::int32_t row, std::int64_t C) { return rows + row * C; }

const float* score_weight(const Transformer& transformer, const Weights& weights) {
  if (transformer.layout().score() < 0) throw std::logic_error("score_rows: the model has no score head");
  return weights.score(transformer.layout());
}

void require_head(const Transformer& transformer) {
  if (transformer.layout().head() < 0)
    throw std::logic_error("TokenLogProbabilities: the model has no language-model head");
}

}  // namespace

void TokenLogProbabilities::gather(const Transformer& transformer, const Activations& activations,
                                   const Targets& targets) {
  const std::int64_t C = transformer.config().hidden_size;
  count_ = targets.size();
  gathered_.reserve(static_cast<std::size_t>(count_ * C));
  log_probability_.reserve(static_cast<std::size_t>(count_));
  for (std::int64_t i = 0; i < count_; ++i)
    std::copy_n(row_of(activations.hidden(), targets.rows[static_cast<std::size_t>(i)], C), C,
                gathered_.data() + i * C);
}

void TokenLogProbabilities::forward(const kernels::Stream& on, const Transformer& transformer,
                                    const Weights& weights, const Activations& activations,
                                    const Targets& targets, float temperature) {
  require_head(transformer);
  gather(transformer, activations, targets);
  kernels::head_forward(on, count_, transformer.config().hidden_size, transformer.config().vocab_size,
                        gathered_.data(), weights.head(), targets.tokens.data(), 1.0f / temperature,
                        log_probability_.data(), transformer.config().logit_softcap);
}

void TokenLogProbabilities::forward_backward(const kernels::Stream& on, const Transformer& transformer,
                                             const Weights& weights, const Activations& activations,
                                             const Targets& targets, float temperature,
                                             std::span<const float> d_values, std::span<float> d_hidden,
                                             std::span<float> gradient) {
  require_head(transformer);
  const std::int64_t C = transformer.config().hidden_size;
  gather(transformer, activations, targets);
  d_gathered_.reserve(static_cast<std::size_t>(count_ * C));
  float* d_head = weights.adapter() == nullptr ? gradient.data() + transformer.layout().head() : nullptr;
  kernels::head_forward_backward(on, count_, C, transformer.config().vocab_size, gathered_.data(),
                                 weights.head(), targets.tokens.data(), 1.0f / temperature, d_values.data(),
                                 log_probability_.data(), d_gathered_.data(), d_head,
                                 transformer.config().logit_softcap);
  std::fill(d_hidden.begin(), d_hidden.end(), 0.0f);
  for (std::int64_t i = 0; i < count_; ++i) {
    const float* from = d_gathered_.data() + i * C;
    float* to = row_of(d_hidden.data(), targets.rows[static_cast<std::size_t>(i)], C);
    for (std::int64_t c = 0; c < C; ++c) to[c] += from[c];
  }
}

std::int64_t TokenLogProbabilities::bytes(const ModelConfig& config, std::int64_t n, bool training) {
  const std::int64_t gathered = (training ? 2 : 1) * n * config.hidden_size;
  return (gathered + n + kernels::head_scratch(n, config.vocab_size)) *
         static_cast<std::int64_t>(sizeof(float));
}

std::vector<float> score_rows(const Transformer& transformer, const Weights& weights,
                              const Activations& activations, std::span<const std::int32_t> rows) {
  const std::int64_t C = transformer.config().hidden_size;
  const float* weight = score_weight(transformer, weights);
  std::vector<float> rewards;
  rewards.reserve(rows.size());
  for (const std::int32_t row : rows) {
    const float* hidden = row_of(activations.hidden(), row, C);
    double reward = 0;
    for (std::int64_t c = 0; c < C; ++c) reward += double{weight[c]} * double{hidden[c]};
    rewards.push_back(static_cast<float>(reward));
  }
  return rewards;
}

void score_rows_backward(const Transformer& transformer, const Weights& weights,
                         const Activations& activations, std::span<const std::int32_t> rows,
                         std::span<const float> d_reward, std::span<float> d_hidden,
                         std::span<float> gradient) {
  const std::int64_t C = transformer.config().hidden_size;
  const float* weight = score_weight(transformer, weights);
  const AdapterLayout* adapter = weights.adapter();
  float* d_weight = gradient.data() + (adapter ? adapter->score() : transformer.layout().score());
  std::fill(d_hidden.begin(), d_hidden.end(), 0.0f);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const float* hidden = row_of(activations.hidden(), rows[i], C);
    float* to = row_of(d_hidden.data(), rows[i], C);
    for (std::int64_t c = 0; c < C; ++c) {
      to[c] += d_reward[i] * weight[c];
      d_weight[c] += d_reward[i] * hidden[c];
    }
  }
}

}  // namespace infalign::model
