#include "core/model/weights.h"

#include <stdexcept>
#include <utility>

#include "kernels/bias/bias.h"

namespace infalign::model {
namespace {

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

template <class MatrixAt>
void Weights::prepare_base(const kernels::Stream& on, const ParameterLayout& layout,
                           const ModelConfig& config, std::span<const float> parameters,
                           const FrozenParameters* frozen, kernels::Use use, kernels::Precision precision,
                           MatrixAt&& matrix_at) {
  if (!base_ || base_.use_count() > 1) base_ = std::make_shared<Base>();
  adapter_ = nullptr;
  base_->parameters = parameters;
  base_->frozen = frozen;
  base_->layers.resize(static_cast<std::size_t>(config.layers));
  for (std::int64_t i = 0; i < config.layers; ++i)
    for (const Matrix which : kMatrices) {
      const MatrixParts parts = parts_of(config, which);
      base_->layers[static_cast<std::size_t>(i)][which].prepare(
          on, parts.rows(), parts.in, matrix_at(layout.layer(i).matrix[which].weight), precision, use);
    }
  if (layout.head() >= 0)
    base_->head.prepare(on, config.vocab_size, config.hidden_size, matrix_at(layout.head()), precision, use);
  base_->norms_plus_one.clear();
  if (config.norm != Norm::kRmsPlusOne) return;
  const std::int64_t C = config.hidden_size;
  const std::vector<float> ones(static_cast<std::size_t>(C), 1.0f);
  const kernels::Mirror<float> one(on, ones);
  for_each_norm(layout, config, [&](std::int64_t offset) {
    kernels::Buffer<float> sum(on, static_cast<std::size_t>(C));
    kernels::copy(on, C, at(offset), sum.data());
    kernels::bias_forward(on, 1, C, one.data(), sum.data());
    base_->norms_plus_one.emplace(offset, std::move(sum));
  });
}

void Weights::prepare(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
                      std::span<const float> parameters, kernels::Use use, kernels::Precision precision) {
  if (std::ssize(parameters) != layout.size()) throw std::logic_error("Weights: not this model's parameters");
  prepare_base(on, layout, config, parameters, nullptr, use, precision,
               [&](std::int64_t offset) { return parameters.data() + offset; });
}

void Weights::prepare(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
                      const FrozenParameters& parameters, kernels::Use use, kernels::Precision precision) {
  prepare_base(on, layout, config, {}, &parameters, use, precision,
               [&](std::int64_t offset) { return parameters.matrix(offset); });
}

void Weights::adapt(const kernels::Stream& on, const Weights& base, const AdapterLayout& adapter,
                    std::span<const float> values) {
  if (std::ssize(values) != adapter.size()) throw std::logic_error("Weights: not this adapter's parameters");
  base_ = base.base_;
  adapter_ = &adapter;
  adapter_values_ = values;
  updates_.resize(base_->layers.size());
  for (std::size_t i = 0; i < updates_.size(); ++i)
    for (const Matrix which : kMatrices)
      adapter.prepare(on, static_cast<std::int64_t>(i), which, values, updates_[i][which]);
}

const float* Weights::norm(std::int64_t offset) const {
  const auto found = base_->norms_plus_one.find(offset);
  return found == base_->norms_plus_one.end() ? at(offset) : found->second.data();
}

const float* Weights::score(const ParameterLayout& layout) const {
  return adapter_ == nullptr ? at(layout.score()) : adapter_values_.data() + adapter_->score();
}

std::int64_t Weights::bytes(const ModelConfig& config, kernels::Use use, kernels::Precision precision,
                            kernels::Precision stored, kernels::Device device) {
  std::int64_t bytes = 0;
  for (const Matrix which : kMatrices) {
    const MatrixParts parts = parts_of(config, which);
    bytes += config.layers * kernels::Linear::bytes(parts.rows(), parts.in, precision, use, stored, device);
  }
  if (!config.score_head)
    bytes += kernels::Linear::bytes(config.vocab_size, config.hidden_size, precision, use, stored, device);
  if (config.norm == Norm::kRmsPlusOne) {
    const std::int64_t norms = (config.norms_after_branches ? 4 : 2) * config.layers + 1;
    bytes += norms * config.hidden_size * static_cast<std::int64_t>(sizeof(float));
  }
  return bytes;
}

}  // namespace infalign::model
