// A part of a model, ready to compute with: a layer, or what stands on the layers. Passes go through a model
// part by part, whether all of it is there or each is gathered when its turn comes.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "core/model/model_config.h"
#include "core/model/parameters.h"
#include "kernels/bias/bias.h"
#include "kernels/device.h"
#include "kernels/linear/linear.h"

namespace infalign::model {

struct PreparedPart {
  OfEachMatrix<kernels::Linear> matrices;                         // of a layer
  kernels::Linear head;                                           // of what stands on them
  std::map<std::int64_t, kernels::Buffer<float>> norms_plus_one;  // by offset

  /// Prepares part `number`, a layer's number, or theirs for what stands on them. matrix_at(offset) are the
  /// values of the matrix there, of either type, vector_at(offset) those of a norm.
  template <class MatrixAt, class VectorAt>
  void prepare(const kernels::Stream& on, const ParameterLayout& layout, const ModelConfig& config,
               std::int64_t number, kernels::Use use, kernels::Precision precision, MatrixAt&& matrix_at,
               VectorAt&& vector_at);
};

/// Calls visit(offset) for the weight [C] of each norm of the residual stream in a part.
template <class Visit>
void for_each_norm(const ParameterLayout& layout, std::int64_t part, Visit&& visit) {
  if (part == layout.layers()) return visit(layout.final_norm().weight);
  const LayerOffsets& at = layout.layer(part);
  for (const NormOffsets& norm :
       {at.input_norm, at.attention_after_norm, at.feed_forward_norm, at.feed_forward_after_norm})
    if (norm.weight != kAbsent) visit(norm.weight);
}

template <class MatrixAt, class VectorAt>
void PreparedPart::prepare(const kernels::Stream& on, const ParameterLayout& layout,
                           const ModelConfig& config, std::int64_t number, kernels::Use use,
                           kernels::Precision precision, MatrixAt&& matrix_at, VectorAt&& vector_at) {
  if (number < config.layers) {
    for (const Matrix which : kMatrices) {
      const MatrixParts parts = parts_of(config, which);
      matrices[which].prepare(on, parts.rows(), parts.in,
                              matrix_at(layout.layer(number).matrix[which].weight), precision, use);
    }
  } else if (layout.head() >= 0) {
    head.prepare(on, config.vocab_size, config.hidden_size, matrix_at(layout.head()), precision, use);
  }
  norms_plus_one.clear();
  if (config.norm != Norm::kRmsPlusOne) return;
  const std::int64_t C = config.hidden_size;
  const std::vector<float> ones(static_cast<std::size_t>(C), 1.0f);
  const kernels::Mirror<float> one(on, ones);
  for_each_norm(layout, number, [&](std::int64_t offset) {
    kernels::Buffer<float> sum(on, static_cast<std::size_t>(C));
    kernels::copy(on, C, vector_at(offset), sum.data());
    kernels::bias_forward(on, 1, C, one.data(), sum.data());
    norms_plus_one.emplace(offset, std::move(sum));
  });
}

}  // namespace infalign::model
