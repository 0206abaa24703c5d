#include "core/model/pieces.h"

#include "kernels/bias/bias.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gelu/gelu.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/qk_norm/qk_norm.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/swiglu/swiglu.h"

namespace infalign::model {

using kernels::ConstValues;
using kernels::Values;

namespace {

kernels::Gelu gelu_of(Activation activation) {
  return activation == Activation::kGeluErf ? kernels::Gelu::kErf : kernels::Gelu::kTanh;
}

void activate(const kernels::Stream& on, const ModelConfig& config, std::int64_t T, ConstValues gate_up,
              Values out) {
  const std::int64_t F = config.intermediate_size;
  if (config.activation == Activation::kSilu) {
    kernels::swiglu_forward(on, T, F, gate_up, out);
  } else if (config.gated) {
    kernels::geglu_forward(on, gelu_of(config.activation), T, F, gate_up, out);
  } else {
    kernels::gelu_forward(on, gelu_of(config.activation), T * F, gate_up, out);
  }
}

void activate_backward(const kernels::Stream& on, const ModelConfig& config, std::int64_t T,
                       ConstValues gate_up, ConstValues d_out, Values d_gate_up) {
  const std::int64_t F = config.intermediate_size;
  if (config.activation == Activation::kSilu) {
    kernels::swiglu_backward(on, T, F, gate_up, d_out, d_gate_up);
  } else if (config.gated) {
    kernels::geglu_backward(on, gelu_of(config.activation), T, F, gate_up, d_out, d_gate_up);
  } else {
    kernels::gelu_backward(on, gelu_of(config.activation), T * F, gate_up, d_out, d_gate_up);
  }
}

}  // namespace

void Pieces::embed(std::span<const std::int32_t> tokens, std::span<const std::int32_t> positions,
                   float* out) const {
  const ParameterLayout& layout = transformer_.layout();
  const std::int64_t T = std::ssize(tokens), C = config_.hidden_size;
  weights_.look_up(on_, layout.embedding(), C, tokens, [&](const auto* table, const std::int32_t* rows) {
    kernels::embedding_forward(on_, T, C, rows, table, out);
  });
  if (config_.embedding_scale != 1) kernels::embedding_scale(on_, T * C, config_.embedding_scale, out);
  if (!config_.learned_positions) return;
  weights_.look_up(on_, layout.positions(), C, positions, [&](const auto* table, const std::int32_t* rows) {
    kernels::embedding_add(on_, T, C, rows, table, out);
  });
}

void Pieces::embed_backward(std::int64_t T, const std::int32_t* tokens, const std::int32_t* positions,
                            float* d_out, const GradientPlace& gradient) const {
  const ParameterLayout& layout = transformer_.layout();
  const std::int64_t C = config_.hidden_size;
  if (weights_.adapter() != nullptr) return;  // nothing below is trained
  if (config_.learned_positions)
    kernels::embedding_backward(on_, T, C, positions, d_out, gradient.at(layout.positions()));
  if (config_.embedding_scale != 1) kernels::embedding_scale(on_, T * C, config_.embedding_scale, d_out);
  kernels::embedding_backward(on_, T, C, tokens, d_out, gradient.at(layout.embedding()));
}

void Pieces::normalise(std::int64_t T, const NormOffsets& norm, float* residual, const float* branch,
                       Values out, float* inverse_rms) const {
  const std::int64_t C = config_.hidden_size;
  if (config_.norm == Norm::kLayer) {
    kernels::add_layer_norm_forward(on_, T, C, config_.norm_epsilon, residual, branch,
                                    weights_.at(norm.weight), weights_.at(norm.bias), out, inverse_rms);
  } else {
    kernels::add_rms_norm_forward(on_, T, C, config_.norm_epsilon, residual, branch,
                                  weights_.norm(norm.weight), out, inverse_rms);
  }
}

void Pieces::normalise_backward(std::int64_t T, const NormOffsets& norm, ConstValues d_out,
                                const float* residual, const float* inverse_rms, float* d_residual,
                                const GradientPlace& gradient) const {
  const std::int64_t C = config_.hidden_size;
  if (config_.norm == Norm::kLayer) {
    kernels::layer_norm_backward(on_, T, C, d_out, residual, weights_.at(norm.weight), inverse_rms,
                                 d_residual, own(gradient, norm.weight), own(gradient, norm.bias));
  } else {
    kernels::rms_norm_backward(on_, T, C, d_out, residual, weights_.norm(norm.weight), inverse_rms,
                               d_residual, own(gradient, norm.weight));
  }
}

void Pieces::linear(std::int64_t T, std::int64_t layer, Matrix which, ConstValues in, Values out) const {
  const std::int64_t bias = transformer_.layout().layer(layer).matrix[which].bias;
  weights_.matrix(layer, which).forward(on_, T, in, out, bias == kAbsent ? nullptr : weights_.at(bias));
  if (weights_.adapter() != nullptr) weights_.update(layer, which).forward(on_, T, in, out);
}

void Pieces::linear_backward(std::int64_t T, std::int64_t layer, Matrix which, ConstValues d_out,
                             ConstValues in, Values d_in, const GradientPlace& gradient) const {
  const kernels::Linear& matrix = weights_.matrix(layer, which);
  const LinearOffsets& at = transformer_.layout().layer(layer).matrix[which];
  matrix.backward_input(on_, T, d_out, d_in);
  if (const AdapterLayout* adapter = weights_.adapter()) {
    const AdapterLayout::Update& update = adapter->update(layer, which);
    weights_.update(layer, which)
        .backward(on_, T, d_out, in, d_in, gradient.at(update.a), gradient.at(update.b));
    return;
  }
  matrix.backward_weight(on_, T, d_out, in, gradient.at(at.weight));
  if (at.bias != kAbsent)
    kernels::bias_backward(on_, T, parts_of(config_, which).rows(), d_out, gradient.at(at.bias));
}

void Pieces::rotate(kernels::Rotation rotation, std::int64_t T, std::int64_t layer,
                    const std::int32_t* positions, Values qkv) const {
  if (config_.learned_positions || !config_.layer(layer).rotary) return;
  kernels::rotary(on_, rotation, T, config_.heads + config_.kv_heads, config_.head_dim, positions,
                  inverse_frequency_.data(), qkv, config_.qkv_width(), config_.rotary_dim);
}

void Pieces::queries_keys_values(std::int64_t T, std::int64_t layer, const std::int32_t* positions,
                                 ConstValues in, const BeforeNorm& raw, Values qkv) const {
  const LayerOffsets& at = transformer_.layout().layer(layer);
  linear(T, layer, Matrix::kQkv, in, config_.qk_norms ? raw.rows : qkv);
  if (config_.qk_norms) {
    kernels::qk_norm_forward(on_, transformer_.attention_shape(layer), T, config_.norm_epsilon, raw.rows,
                             weights_.at(at.q_norm), weights_.at(at.k_norm), qkv, raw.inverse_rms);
  }
  rotate(kernels::Rotation::kForward, T, layer, positions, qkv);
}

void Pieces::queries_keys_values_backward(std::int64_t T, std::int64_t layer, const std::int32_t* positions,
                                          const BeforeNorm& raw, ConstValues in, Values d_qkv, Values d_in,
                                          const GradientPlace& gradient) const {
  const LayerOffsets& at = transformer_.layout().layer(layer);
  rotate(kernels::Rotation::kBackward, T, layer, positions, d_qkv);
  if (config_.qk_norms) {
    kernels::qk_norm_backward(on_, transformer_.attention_shape(layer), T, raw.rows, weights_.at(at.q_norm),
                              weights_.at(at.k_norm), raw.inverse_rms, d_qkv, own(gradient, at.q_norm),
                              own(gradient, at.k_norm));
  }
  linear_backward(T, layer, Matrix::kQkv, d_qkv, in, d_in, gradient);
}

void Pieces::end_branch(std::int64_t T, std::int64_t layer, Matrix which, const NormOffsets& norm,
                        ConstValues in, const BeforeNorm& raw, float* out) const {
  const bool normed = norm.weight != kAbsent;
  linear(T, layer, which, in, normed ? raw.rows : out);
  if (normed) normalise(T, norm, raw.rows.floats(), nullptr, out, raw.inverse_rms);
}

void Pieces::end_branch_backward(std::int64_t T, std::int64_t layer, Matrix which, const NormOffsets& norm,
                                 const float* d_out, ConstValues in, const BeforeNorm& raw, float* d_raw,
                                 Values d_in, const GradientPlace& gradient) const {
  if (norm.weight != kAbsent) {
    kernels::fill_zero(on_, T * config_.hidden_size, d_raw);
    normalise_backward(T, norm, d_out, raw.rows.floats(), raw.inverse_rms, d_raw, gradient);
    d_out = d_raw;
  }
  linear_backward(T, layer, which, d_out, in, d_in, gradient);
}

void Pieces::attention_out(std::int64_t T, std::int64_t layer, ConstValues attended, const BeforeNorm& raw,
                           float* out) const {
  end_branch(T, layer, Matrix::kAttentionOut, transformer_.layout().layer(layer).attention_after_norm,
             attended, raw, out);
}

void Pieces::attention_out_backward(std::int64_t T, std::int64_t layer, const float* d_out,
                                    ConstValues attended, const BeforeNorm& raw, float* d_raw,
                                    Values d_attended, const GradientPlace& gradient) const {
  end_branch_backward(T, layer, Matrix::kAttentionOut,
                      transformer_.layout().layer(layer).attention_after_norm, d_out, attended, raw, d_raw,
                      d_attended, gradient);
}

void Pieces::feed_forward_in(std::int64_t T, std::int64_t layer, ConstValues in, Values gate_up,
                             Values gated) const {
  linear(T, layer, Matrix::kGateUp, in, gate_up);
  activate(on_, config_, T, gate_up, gated);
}

void Pieces::feed_forward_out(std::int64_t T, std::int64_t layer, ConstValues gated, const BeforeNorm& raw,
                              float* out) const {
  end_branch(T, layer, Matrix::kDown, transformer_.layout().layer(layer).feed_forward_after_norm, gated, raw,
             out);
}

void Pieces::feed_forward_backward(std::int64_t T, std::int64_t layer, const float* d_out, ConstValues in,
                                   ConstValues gate_up, ConstValues gated, const BeforeNorm& raw,
                                   float* d_raw, Values d_gated, Values d_gate_up, Values d_in,
                                   const GradientPlace& gradient) const {
  end_branch_backward(T, layer, Matrix::kDown, transformer_.layout().layer(layer).feed_forward_after_norm,
                      d_out, gated, raw, d_raw, d_gated, gradient);
  activate_backward(on_, config_, T, gate_up, d_gated, d_gate_up);
  linear_backward(T, layer, Matrix::kGateUp, d_gate_up, in, d_in, gradient);
}

}  // namespace infalign::model
