#include "core/model/weights.h"

#include <stdexcept>
#include <utility>

namespace infalign::model {

Weights::Base& Weights::own_base(const ModelConfig& config, kernels::Precision precision) {
  if (!base_ || base_.use_count() > 1) base_ = std::make_shared<Base>();
  adapter_ = nullptr;
  base_->layers = config.layers;
  base_->precision = precision;
  base_->parameters = {};
  base_->narrow = nullptr;
  base_->gathered.reset();
  return *base_;
}

template <class MatrixAt>
void Weights::prepare_parts(const kernels::Stream& on, const ParameterLayout& layout,
                            const ModelConfig& config, kernels::Use use, kernels::Precision precision,
                            MatrixAt&& matrix_at) {
  base_->parts.resize(static_cast<std::size_t>(config.layers + 1));
  base_->norms_plus_one.clear();
  for (std::int64_t number = 0; number <= config.layers; ++number) {
    PreparedPart& part = base_->parts[static_cast<std::size_t>(number)];
    part.prepare(on, layout, config, number, use, precision, matrix_at,
                 [&](std::int64_t offset) { return at(offset); });
    for (const auto& [offset, values] : part.norms_plus_one)
      base_->norms_plus_one.emplace(offset, values.data());
  }
}

void Weights::prepare(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
                      std::span<const float> parameters, kernels::Use use, kernels::Precision precision) {
  if (std::ssize(parameters) != layout.size()) throw std::logic_error("Weights: not this model's parameters");
  own_base(config, precision).parameters = parameters;
  prepare_parts(on, layout, config, use, precision,
                [&](std::int64_t offset) { return parameters.data() + offset; });
}

void Weights::prepare(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
                      const NarrowParameters& parameters, kernels::Use use, kernels::Precision precision) {
  own_base(config, precision).narrow = &parameters;
  prepare_parts(on, layout, config, use, precision,
                [&](std::int64_t offset) { return parameters.matrix(offset); });
}

void Weights::prepare(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
                      const Gathering& parameters, kernels::Use use, kernels::Precision precision) {
  own_base(config, precision).gathered.emplace(on, layout, config, parameters, nullptr, use, precision);
}

void Weights::prepare(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
                      const NarrowParameters& vectors, const Gathering& matrices, kernels::Use use,
                      kernels::Precision precision) {
  Base& base = own_base(config, precision);
  base.narrow = &vectors;
  base.gathered.emplace(on, layout, config, matrices, &vectors, use, precision);
}

void Weights::adapt(const kernels::Stream& on, const Weights& base, const AdapterLayout& adapter,
                    std::span<const float> values) {
  if (std::ssize(values) != adapter.size()) throw std::logic_error("Weights: not this adapter's parameters");
  base_ = base.base_;
  adapter_ = &adapter;
  adapter_values_ = values;
  updates_.resize(static_cast<std::size_t>(base_->layers));
  for (std::size_t i = 0; i < updates_.size(); ++i)
    for (const Matrix which : kMatrices)
      adapter.prepare(on, static_cast<std::int64_t>(i), which, values, updates_[i][which]);
}

const float* Weights::norm(std::int64_t offset) const {
  if (base_->gathered) {
    const auto& norms = base_->gathered->held().norms_plus_one;
    const auto found = norms.find(offset);
    return found == norms.end() ? at(offset) : found->second.data();
  }
  const auto found = base_->norms_plus_one.find(offset);
  return found == base_->norms_plus_one.end() ? at(offset) : found->second;
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
