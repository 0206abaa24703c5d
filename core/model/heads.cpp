// What stands on top of the decoder: the language-model head at chosen rows and the score head of a reward
// model, with their gradients back to the hidden states.
#include <stdexcept>

#include "core/model/transformer.h"
#include "kernels/embedding/embedding.h"
#include "kernels/head/head.h"
#include "kernels/score/score.h"

namespace infalign::model {
namespace {

/// Rows of the hidden states, side by side in `to`.
void gather_rows(const kernels::Stream& on, std::int64_t C, const float* hidden,
                 const kernels::Mirror<std::int32_t>& rows, std::int64_t n, kernels::Buffer<float>& to) {
  to.reserve(on, static_cast<std::size_t>(n * C));
  kernels::embedding_forward(on, n, C, rows.data(), hidden, to.data());
}

/// d_hidden is overwritten: zero but for the rows, to each of which its gradients are added in order.
void scatter_rows(const kernels::Stream& on, std::int64_t C, const float* d_rows,
                  const kernels::Mirror<std::int32_t>& rows, std::int64_t n, std::span<float> d_hidden) {
  kernels::fill_zero(on, std::ssize(d_hidden), d_hidden.data());
  kernels::embedding_backward(on, n, C, rows.data(), d_rows, d_hidden.data());
}

const float* score_weight(const Transformer& transformer, const Weights& weights) {
  if (transformer.layout().score() < 0) throw std::logic_error("score_rows: the model has no score head");
  weights.hold(transformer.config().layers);
  return weights.score(transformer.layout());
}

void hold_head(const Transformer& transformer, const Weights& weights) {
  if (transformer.layout().head() < 0)
    throw std::logic_error("TokenLogProbabilities: the model has no language-model head");
  weights.hold(transformer.config().layers);
}

}  // namespace

void TokenLogProbabilities::gather(const kernels::Stream& on, const Transformer& transformer,
                                   const Activations& activations, const Targets& targets) {
  count_ = targets.size();
  values_.resize(static_cast<std::size_t>(count_));
  gather_rows(on, transformer.config().hidden_size, activations.hidden(), {on, targets.rows}, count_,
              gathered_);
}

void TokenLogProbabilities::forward(const kernels::Stream& on, const Transformer& transformer,
                                    const Weights& weights, const Activations& activations,
                                    const Targets& targets, float temperature) {
  hold_head(transformer, weights);
  gather(on, transformer, activations, targets);
  const kernels::Mirror<std::int32_t> tokens(on, targets.tokens);
  kernels::Returned<float> values(on, values_);
  kernels::head_forward(on, count_, transformer.config().hidden_size, transformer.config().vocab_size,
                        gathered_.data(), weights.head(), tokens.data(), 1.0f / temperature, values.data(),
                        transformer.config().logit_softcap);
  values.fetch();
}

void TokenLogProbabilities::forward_backward(const kernels::Stream& on, const Transformer& transformer,
                                             const Weights& weights, const Activations& activations,
                                             const Targets& targets, float temperature,
                                             std::span<const float> d_values, std::span<float> d_hidden,
                                             const GradientPlace& gradient) {
  hold_head(transformer, weights);
  const std::int64_t C = transformer.config().hidden_size;
  gather(on, transformer, activations, targets);
  d_gathered_.reserve(on, static_cast<std::size_t>(count_ * C));
  float* d_head = weights.adapter() == nullptr ? gradient.at(transformer.layout().head()) : nullptr;
  const kernels::Mirror<std::int32_t> tokens(on, targets.tokens);
  const kernels::Mirror<float> coefficients(on, d_values);
  kernels::Returned<float> values(on, values_);
  kernels::head_forward_backward(on, count_, C, transformer.config().vocab_size, gathered_.data(),
                                 weights.head(), tokens.data(), 1.0f / temperature, coefficients.data(),
                                 values.data(), d_gathered_.data(), d_head,
                                 transformer.config().logit_softcap);
  scatter_rows(on, C, d_gathered_.data(), {on, targets.rows}, count_, d_hidden);
  values.fetch();
}

std::int64_t TokenLogProbabilities::bytes(const ModelConfig& config, std::int64_t n, bool training) {
  const std::int64_t gathered = (training ? 2 : 1) * n * config.hidden_size;
  return (gathered + kernels::head_scratch(n, config.vocab_size)) * static_cast<std::int64_t>(sizeof(float));
}

std::vector<float> score_rows(const kernels::Stream& on, const Transformer& transformer,
                              const Weights& weights, const Activations& activations,
                              std::span<const std::int32_t> rows) {
  const std::int64_t C = transformer.config().hidden_size, n = std::ssize(rows);
  const float* weight = score_weight(transformer, weights);
  kernels::Buffer<float> gathered;
  gather_rows(on, C, activations.hidden(), {on, rows}, n, gathered);
  std::vector<float> rewards(rows.size());
  kernels::Returned<float> scores(on, rewards);
  kernels::score_forward(on, n, C, gathered.data(), weight, scores.data());
  scores.fetch();
  return rewards;
}

void score_rows_backward(const kernels::Stream& on, const Transformer& transformer, const Weights& weights,
                         const Activations& activations, std::span<const std::int32_t> rows,
                         std::span<const float> d_reward, std::span<float> d_hidden,
                         const GradientPlace& gradient) {
  const std::int64_t C = transformer.config().hidden_size, n = std::ssize(rows);
  const float* weight = score_weight(transformer, weights);
  const AdapterLayout* adapter = weights.adapter();
  float* d_weight = gradient.at(adapter ? adapter->score() : transformer.layout().score());
  const kernels::Mirror<std::int32_t> chosen(on, rows);
  const kernels::Mirror<float> d_score(on, d_reward);
  kernels::Buffer<float> gathered, d_gathered(on, static_cast<std::size_t>(n * C));
  gather_rows(on, C, activations.hidden(), chosen, n, gathered);
  kernels::score_backward(on, n, C, gathered.data(), weight, d_score.data(), d_gathered.data(), d_weight);
  scatter_rows(on, C, d_gathered.data(), chosen, n, d_hidden);
}

}  // namespace infalign::model
