// The pieces of a decoder block, each as the model's description asks for it, and their gradients. Training,
// scoring and decoding put the same pieces together, so that all agree on every number.
#pragma once

#include <cstdint>
#include <span>

#include "core/model/gradient_place.h"
#include "core/model/transformer.h"
#include "kernels/rotary/rotary.h"
#include "kernels/values.h"

namespace infalign::model {

/// What a norm on the way reads and leaves for its backward pass: the rows before it, and 1 / rms of each (of
/// each head, for norms of heads). Unused where the model has no such norm.
struct BeforeNorm {
  kernels::Values rows;
  float* inverse_rms = nullptr;
};

/// Rows T of all arguments are as in Transformer::forward.
class Pieces {
 public:
  /// All three are to outlive this.
  Pieces(const kernels::Stream& on, const Transformer& transformer, const Weights& weights)
      : on_(on),
        transformer_(transformer),
        config_(transformer.config()),
        weights_(weights),
        inverse_frequency_(on, transformer.inverse_frequency()) {}

  /// out [T, C]: embeddings, scaled, with their positions added. Tokens and positions are the CPU's.
  void embed(std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions, float* out) const;
  /// residual += branch (unless null), out = its norm; inverse_rms [T] as kernels leave it.
  void normalise(std::int64_t T, const NormOffsets& norm, float* residual, const float* branch,
                 kernels::Values out, float* inverse_rms) const;
  /// qkv [T, qkv_width] of a layer, rotated; `raw` [T, qkv_width] is what heads' norms normalise.
  void queries_keys_values(std::int64_t T, std::int64_t layer, const std::int32_t* positions,
                           kernels::ConstValues in, const BeforeNorm& raw, kernels::Values qkv) const;
  /// out [T, C]: the product that ends attention, and the norm after it; `raw` [T, C] is the product.
  void attention_out(std::int64_t T, std::int64_t layer, kernels::ConstValues attended, const BeforeNorm& raw,
                     float* out) const;
  /// gated [T, F]: the feed-forward block up to its last product, with gate_up [T, gate_up_width] on the way.
  void feed_forward_in(std::int64_t T, std::int64_t layer, kernels::ConstValues in, kernels::Values gate_up,
                       kernels::Values gated) const;
  /// out [T, C]: its last product, and the norm after it; `raw` [T, C] is the product.
  void feed_forward_out(std::int64_t T, std::int64_t layer, kernels::ConstValues gated, const BeforeNorm& raw,
                        float* out) const;

  // Backward, in the order in which they are needed. Gradients of rows are overwritten but for d_residual,
  // which is added to, and those of the trained parameters, the model's own or its adapter's, are added to
  // `gradient`. `d_raw` [T, C] is scratch where norms follow branches.

  void normalise_backward(std::int64_t T, const NormOffsets& norm, kernels::ConstValues d_out,
                          const float* residual, const float* inverse_rms, float* d_residual,
                          const GradientPlace& gradient) const;
  void feed_forward_backward(std::int64_t T, std::int64_t layer, const float* d_out, kernels::ConstValues in,
                             kernels::ConstValues gate_up, kernels::ConstValues gated, const BeforeNorm& raw,
                             float* d_raw, kernels::Values d_gated, kernels::Values d_gate_up,
                             kernels::Values d_in, const GradientPlace& gradient) const;
  void attention_out_backward(std::int64_t T, std::int64_t layer, const float* d_out,
                              kernels::ConstValues attended, const BeforeNorm& raw, float* d_raw,
                              kernels::Values d_attended, const GradientPlace& gradient) const;
  /// d_qkv is changed on the way.
  void queries_keys_values_backward(std::int64_t T, std::int64_t layer, const std::int32_t* positions,
                                    const BeforeNorm& raw, kernels::ConstValues in, kernels::Values d_qkv,
                                    kernels::Values d_in, const GradientPlace& gradient) const;
  /// d_out is changed on the way.
  void embed_backward(std::int64_t T, const std::int32_t* tokens, const std::int32_t* positions, float* d_out,
                      const GradientPlace& gradient) const;

 private:
  void rotate(kernels::Rotation rotation, std::int64_t T, std::int64_t layer, const std::int32_t* positions,
              kernels::Values qkv) const;
  /// out [T, n] = in times a matrix of the layer, with its update and its bias.
  void linear(std::int64_t T, std::int64_t layer, Matrix which, kernels::ConstValues in,
              kernels::Values out) const;
  void linear_backward(std::int64_t T, std::int64_t layer, Matrix which, kernels::ConstValues d_out,
                       kernels::ConstValues in, kernels::Values d_in, const GradientPlace& gradient) const;
  /// The end of a branch: a product, and its norm if there is one.
  void end_branch(std::int64_t T, std::int64_t layer, Matrix which, const NormOffsets& norm,
                  kernels::ConstValues in, const BeforeNorm& raw, float* out) const;
  void end_branch_backward(std::int64_t T, std::int64_t layer, Matrix which, const NormOffsets& norm,
                           const float* d_out, kernels::ConstValues in, const BeforeNorm& raw, float* d_raw,
                           kernels::Values d_in, const GradientPlace& gradient) const;
  /// Where the gradient of the model's own parameter at `offset` goes: nowhere, null, where it is frozen.
  float* own(const GradientPlace& gradient, std::int64_t offset) const {
    return weights_.adapter() == nullptr ? gradient.at(offset) : nullptr;
  }

  const kernels::Stream& on_;
  const Transformer& transformer_;
  const ModelConfig& config_;
  const Weights& weights_;
  kernels::Mirror<float> inverse_frequency_;
};

}  // namespace infalign::model
