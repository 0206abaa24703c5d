#include "core/model/weights.h"

#include <stdexcept>

namespace infalign::model {
namespace {

/// Calls visit(member of LayerMatrices, offset, n, k) for each matrix [n, k] of a layer: the one list of
/// them.
template <class Visit>
void for_each_matrix(const ModelConfig& config, const LayerOffsets& at, Visit&& visit) {
  const std::int64_t C = config.hidden_size, F = config.intermediate_size;
  visit(&LayerMatrices::qkv, at.qkv, config.qkv_width(), C);
  visit(&LayerMatrices::attention_out, at.attention_out, C, config.heads * config.head_dim);
  visit(&LayerMatrices::gate_up, at.gate_up, 2 * F, C);
  visit(&LayerMatrices::down, at.down, C, F);
}

}  // namespace

void Weights::prepare(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
                      std::span<const float> parameters, kernels::Use use, kernels::Precision precision) {
  if (std::ssize(parameters) != layout.size()) throw std::logic_error("Weights: not this model's parameters");
  parameters_ = parameters;
  layers_.resize(static_cast<std::size_t>(config.layers));
  for (std::int64_t i = 0; i < config.layers; ++i) {
    LayerMatrices& layer = layers_[static_cast<std::size_t>(i)];
    for_each_matrix(config, layout.layer(i),
                    [&](auto matrix, std::int64_t offset, std::int64_t n, std::int64_t k) {
                      (layer.*matrix).prepare(on, n, k, at(offset), precision, use);
                    });
  }
  if (layout.head() >= 0)
    head_.prepare(on, config.vocab_size, config.hidden_size, at(layout.head()), precision, use);
}

std::int64_t Weights::bytes(const ModelConfig& config, kernels::Use use, kernels::Precision precision) {
  std::int64_t bytes = 0;
  for_each_matrix(config, LayerOffsets{}, [&](auto, std::int64_t, std::int64_t n, std::int64_t k) {
    bytes += config.layers * kernels::Linear::bytes(n, k, precision, use);
  });
  if (!config.score_head)
    bytes += kernels::Linear::bytes(config.vocab_size, config.hidden_size, precision, use);
  return bytes;
}

}  // namespace infalign::model
