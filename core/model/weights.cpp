#include "core/model/weights.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace infalign::model {
namespace {

/// Calls visit(member of LayerMatrices, offset, n, k) for each matrix [n, k] of a layer: the one list of
/// them.
template <class Visit>
void for_each_matrix(const ModelConfig& config, const LayerOffsets& at, Visit&& visit) {
  const std::int64_t C = config.hidden_size, F = config.intermediate_size;
  visit(&LayerMatrices::qkv, at.qkv.weight, config.qkv_width(), C);
  visit(&LayerMatrices::attention_out, at.attention_out.weight, C, config.q_width());
  visit(&LayerMatrices::gate_up, at.gate_up.weight, config.gate_up_width(), C);
  visit(&LayerMatrices::down, at.down.weight, C, F);
}

/// Calls visit(offset) for the weight [C] of each norm of the residual stream.
template <class Visit>
void for_each_norm(const ParameterLayout& layout, const ModelConfig& config, Visit&& visit) {
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const LayerOffsets& at = layout.layer(i);
    for (const NormOffsets& norm :
         {at.input_norm, at.attention_after_norm, at.feed_forward_norm, at.feed_forward_after_norm})
      if (norm.weight != kAbsent) visit(norm.weight);
  }
  visit(layout.final_norm().weight);
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
  norms_plus_one_.clear();
  if (config.norm != Norm::kRmsPlusOne) return;
  for_each_norm(layout, config, [&](std::int64_t offset) {
    kernels::Buffer<float> sum(static_cast<std::size_t>(config.hidden_size));
    std::transform(at(offset), at(offset) + config.hidden_size, sum.data(), [](float w) { return 1.0f + w; });
    norms_plus_one_.emplace(offset, std::move(sum));
  });
}

const float* Weights::norm(std::int64_t offset) const {
  const auto found = norms_plus_one_.find(offset);
  return found == norms_plus_one_.end() ? at(offset) : found->second.data();
}

std::int64_t Weights::bytes(const ModelConfig& config, kernels::Use use, kernels::Precision precision) {
  std::int64_t bytes = 0;
  for_each_matrix(config, LayerOffsets{}, [&](auto, std::int64_t, std::int64_t n, std::int64_t k) {
    bytes += config.layers * kernels::Linear::bytes(n, k, precision, use);
  });
  if (!config.score_head)
    bytes += kernels::Linear::bytes(config.vocab_size, config.hidden_size, precision, use);
  if (config.norm == Norm::kRmsPlusOne) {
    const std::int64_t norms = (config.norms_after_branches ? 4 : 2) * config.layers + 1;
    bytes += norms * config.hidden_size * static_cast<std::int64_t>(sizeof(float));
  }
  return bytes;
}

}  // namespace infalign::model
