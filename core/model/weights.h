// A model's parameters, ready to compute with: the flat buffer as it is, and its matrices prepared for
// products.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "core/model/model_config.h"
#include "core/model/parameters.h"
#include "kernels/device.h"
#include "kernels/linear/linear.h"

namespace infalign::model {

/// The matrices of a decoder layer; q-k-v and gate-up are one each.
struct LayerMatrices {
  kernels::Linear qkv, attention_out, gate_up, down;
};

class Weights {
 public:
  Weights() = default;
  /// The same as prepare on a fresh object.
  Weights(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
          std::span<const float> parameters, kernels::Use use,
          kernels::Precision precision = kernels::Precision::kFloat32) {
    prepare(on, layout, config, parameters, use, precision);
  }

  /// To be called again whenever `parameters` [layout.size()] change; they have to stay where they are.
  void prepare(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
               std::span<const float> parameters, kernels::Use use,
               kernels::Precision precision = kernels::Precision::kFloat32);

  /// The parameter that begins at this offset of the flat buffer.
  const float* at(std::int64_t offset) const { return parameters_.data() + offset; }
  /// What a norm multiplies with: the parameter at this offset [C], or 1 + that (Norm::kRmsPlusOne).
  const float* norm(std::int64_t offset) const;
  const LayerMatrices& layer(std::int64_t i) const { return layers_[static_cast<std::size_t>(i)]; }
  /// [V, C]; of a model that has a language-model head.
  const kernels::Linear& head() const { return head_; }

  /// Memory that preparing takes beside the parameters.
  static std::int64_t bytes(const ModelConfig& config, kernels::Use use, kernels::Precision precision);

 private:
  std::span<const float> parameters_;
  std::vector<LayerMatrices> layers_;
  kernels::Linear head_;
  std::map<std::int64_t, kernels::Buffer<float>> norms_plus_one_;  // by offset
};

}  // namespace infalign::model
