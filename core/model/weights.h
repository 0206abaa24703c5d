// A model's parameters, ready to compute with: the flat buffer as it is, its matrices prepared for products,
// and an adapter on them where there is one. Where the parameters are other processes' too, passes say which
// part they are at, and it is gathered.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/model/adapter.h"
#include "core/model/gathered_parameters.h"
#include "core/model/model_config.h"
#include "core/model/narrow_parameters.h"
#include "core/model/parameters.h"
#include "core/model/prepared_part.h"
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

  /// The same of parameters in bfloat16.
  void prepare(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
               const NarrowParameters& parameters, kernels::Use use,
               kernels::Precision precision = kernels::Precision::kFloat32);

  /// The same of parameters that have to be gathered, in float32, or matrices in bfloat16.
  void prepare(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
               const Gathering& parameters, kernels::Use use,
               kernels::Precision precision = kernels::Precision::kFloat32);
  void prepare(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
               const NarrowParameters& vectors, const Gathering& matrices, kernels::Use use,
               kernels::Precision precision = kernels::Precision::kFloat32);

  /// The weights of `base` with an adapter on them; what is prepared of the base is shared, not copied. To be
  /// called again whenever `values` [adapter.size()] change. Both have to stay where they are.
  void adapt(const kernels::Stream& on, const Weights& base, const AdapterLayout& adapter,
             std::span<const float> values);

  /// A pass is at layer `part`, or, with the number of layers, on top of them; `next` comes after it.
  /// Parameters, norms and matrices below are read of the part at hand only.
  void hold(std::int64_t part, std::optional<std::int64_t> next = std::nullopt) const {
    if (base_->gathered) base_->gathered->hold(part, next);
  }
  bool is_gathered() const { return base_->gathered.has_value(); }
  /// In what products with these weights are made.
  kernels::Precision precision() const { return base_->precision; }

  /// Calls visit(table, rows) with a table of the model [.., width], the embedding or that of positions, in
  /// the type in which it is held, and the rows of it that `which` are, on the device.
  template <class Visit>
  void look_up(const kernels::Stream& on, std::int64_t table, std::int64_t width,
               std::span<const std::int32_t> which, Visit&& visit) const;

  /// The parameter that begins at this offset of the flat buffer; where matrices are in bfloat16, no matrix.
  const float* at(std::int64_t offset) const {
    if (base_->narrow != nullptr) return base_->narrow->vector(offset);
    return base_->gathered ? base_->gathered->at(offset) : base_->parameters.data() + offset;
  }
  /// What a norm multiplies with: the parameter at this offset [C], or 1 + that (Norm::kRmsPlusOne).
  const float* norm(std::int64_t offset) const;
  const kernels::Linear& matrix(std::int64_t layer, Matrix which) const {
    return part(layer).matrices[which];
  }
  /// [V, C]; of a model that has a language-model head.
  const kernels::Linear& head() const { return part(base_->layers).head; }

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
    std::int64_t layers = 0;
    kernels::Precision precision = kernels::Precision::kFloat32;
    std::span<const float> parameters;                    // either these
    const NarrowParameters* narrow = nullptr;             // or these
    std::vector<PreparedPart> parts;                      // [layers + 1], unless ...
    std::optional<GatheredParameters> gathered;           // ... each is gathered in its turn
    std::map<std::int64_t, const float*> norms_plus_one;  // those of all parts
  };

  const PreparedPart& part(std::int64_t number) const {
    return base_->gathered ? base_->gathered->prepared(number)
                           : base_->parts[static_cast<std::size_t>(number)];
  }
  /// A base that no other weights share, with nothing in it but what was prepared before.
  Base& own_base(const ModelConfig& config, kernels::Precision precision);

  /// matrix_at(offset) are the values of a matrix, of either type.
  template <class MatrixAt>
  void prepare_parts(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
                     kernels::Use use, kernels::Precision precision, MatrixAt&& matrix_at);

  std::shared_ptr<Base> base_;
  const AdapterLayout* adapter_ = nullptr;
  std::span<const float> adapter_values_;
  std::vector<OfEachMatrix<kernels::LowRank>> updates_;
};

template <class Visit>
void Weights::look_up(const kernels::Stream& on, std::int64_t table, std::int64_t width,
                      std::span<const std::int32_t> which, Visit&& visit) const {
  const auto gather = [&](auto rows) {
    visit(std::as_const(rows.table).data(), kernels::Mirror<std::int32_t>(on, rows.index).data());
  };
  if (base_->gathered && base_->narrow != nullptr)
    return gather(base_->gathered->template rows<kernels::Bfloat16>(table, width, which));
  if (base_->gathered) return gather(base_->gathered->template rows<float>(table, width, which));
  const kernels::Mirror<std::int32_t> rows(on, which);
  if (base_->narrow != nullptr)
    visit(base_->narrow->matrix(table), rows.data());
  else
    visit(base_->parameters.data() + table, rows.data());
}

}  // namespace infalign::model
