// A model's parameters, ready to compute with: the flat buffer as it is, its matrices prepared for products,
// and an adapter on them where there is one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "core/model/adapter.h"
#include "core/model/frozen_parameters.h"
#include "core/model/model_config.h"
#include "core/model/parameters.h"
#include "kernels/device.h"
#include "kernels/linear/linear.h"

namespace infalign::model {

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

  /// The same of parameters that are never trained. A backward pass needs an adapter on them.
  void prepare(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
               const FrozenParameters& parameters, kernels::Use use,
               kernels::Precision precision = kernels::Precision::kFloat32);

  /// The weights of `base` with an adapter on them; what is prepared of the base is shared, not copied. To be
  /// called again whenever `values` [adapter.size()] change. Both have to stay where they are.
  void adapt(const kernels::Stream& on, const Weights& base, const AdapterLayout& adapter,
             std::span<const float> values);

  /// The parameter that begins at this offset of the flat buffer; of frozen ones, no matrix.
  const float* at(std::int64_t offset) const {
    return base_->frozen != nullptr ? base_->frozen->vector(offset) : base_->parameters.data() + offset;
  }
  /// Where the parameters are if they are frozen; else null.
  const FrozenParameters* frozen() const { return base_->frozen; }
  /// What a norm multiplies with: the parameter at this offset [C], or 1 + that (Norm::kRmsPlusOne).
  const float* norm(std::int64_t offset) const;
  const kernels::Linear& matrix(std::int64_t layer, Matrix which) const {
    return base_->layers[static_cast<std::size_t>(layer)][which];
  }
  /// [V, C]; of a model that has a language-model head.
  const kernels::Linear& head() const { return base_->head; }

  /// The adapter, whose parameters are the trained ones; null where all of the model's are.
  const AdapterLayout* adapter() const { return adapter_; }
  /// Its update of a matrix; may be empty. Of weights that have an adapter.
  const kernels::LowRank& update(std::int64_t layer, Matrix which) const {
    return updates_[static_cast<std::size_t>(layer)][which];
  }
  /// The score head [C] of a reward model with this layout: the adapter's, or the model's own.
  const float* score(const ParameterLayout& layout) const;

  /// Memory that preparing takes beside the parameters.
  static std::int64_t bytes(const ModelConfig& config, kernels::Use use, kernels::Precision precision,
                            kernels::Precision stored = kernels::Precision::kFloat32,
                            kernels::Device device = kernels::Device::kCpu);

 private:
  struct Base {
    std::span<const float> parameters;         // either these
    const FrozenParameters* frozen = nullptr;  // or these
    std::vector<OfEachMatrix<kernels::Linear>> layers;
    kernels::Linear head;
    std::map<std::int64_t, kernels::Buffer<float>> norms_plus_one;  // by offset
  };

  /// matrix_at(offset) are the values of a matrix, of either type.
  template <class MatrixAt>
  void prepare_base(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
                    std::span<const float> parameters, const FrozenParameters* frozen, kernels::Use use,
                    kernels::Precision precision, MatrixAt&& matrix_at);

  std::shared_ptr<Base> base_;
  const AdapterLayout* adapter_ = nullptr;
  std::span<const float> adapter_values_;
  std::vector<OfEachMatrix<kernels::LowRank>> updates_;
};

}  // namespace infalign::model
