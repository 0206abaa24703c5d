// The decoder's forward and backward pass as a sequence of kernels. The residual stream is never added to in
// place where it is still needed: a block's branch is written to the next buffer of the stream, and the
// kernel that normalises adds the stream before it, so that keeping everything for the backward pass costs no
// copy.
#include "core/model/transformer.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "kernels/embedding/embedding.h"
#include "kernels/matmul/matmul.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rotary/rotary.h"
#include "kernels/swiglu/swiglu.h"

namespace infalign::model {
namespace {

using kernels::Rotation;
using kernels::Transpose;

/// [head_dim / 2], in float32 arithmetic throughout, as transformers computes them.
std::vector<float> inverse_frequencies(const ModelConfig& config) {
  std::vector<float> frequency(static_cast<std::size_t>(config.head_dim / 2));
  for (std::size_t d = 0; d < frequency.size(); ++d) {
    const float exponent = static_cast<float>(2 * d) / static_cast<float>(config.head_dim);
    frequency[d] = 1.0f / std::pow(config.rope_theta, exponent);
  }
  return frequency;
}

void check_batch(const ModelConfig& config, const PackedBatch& batch) {
  for (const std::int32_t token : batch.tokens) {
    if (token < 0 || token >= config.vocab_size) {
      throw std::invalid_argument("token " + std::to_string(token) + " is outside the vocabulary of " +
                                  std::to_string(config.vocab_size));
    }
  }
  for (const std::int32_t position : batch.positions) {
    if (position < 0 || position >= config.max_positions) {
      throw std::invalid_argument("position " + std::to_string(position) + " is beyond the model's " +
                                  std::to_string(config.max_positions));
    }
  }
}

/// out [T, n] = in [T, k] weight [n, k]^T.
void linear(const kernels::Stream& on, std::int64_t T, std::int64_t n, std::int64_t k, const float* in,
            const float* weight, float* out) {
  kernels::matmul(on, Transpose::kNo, Transpose::kYes, T, n, k, in, k, weight, k, 0, out, n);
}

/// The gradients of `linear`: d_in is overwritten, d_weight is added to.
void linear_backward(const kernels::Stream& on, std::int64_t T, std::int64_t n, std::int64_t k,
                     const float* d_out, const float* in, const float* weight, float* d_in, float* d_weight) {
  kernels::matmul(on, Transpose::kNo, Transpose::kNo, T, k, n, d_out, n, weight, k, 0, d_in, k);
  kernels::matmul(on, Transpose::kYes, Transpose::kNo, n, k, T, d_out, n, in, k, 1, d_weight, k);
}

}  // namespace

const float* Activations::qkv(std::int64_t layer) const {
  if (kept_ == Keep::kNothing) throw std::logic_error("Activations::qkv: keys and values were not kept");
  return layers_[static_cast<std::size_t>(layer)].qkv.data();
}

template <class Visit>
void Activations::for_each_buffer(const ModelConfig& config, Keep keep, Visit&& visit) {
  const std::int64_t C = config.hidden_size, F = config.intermediate_size;
  const auto layers = static_cast<std::size_t>(keep == Keep::kNothing ? 1 : config.layers);
  if (layers_.size() < layers) layers_.resize(layers);
  for (std::size_t i = 0; i < layers; ++i) {
    Layer& layer = layers_[i];
    visit(layer.qkv, config.qkv_width());
    if (i > 0 && keep != Keep::kEverything) continue;
    visit(layer.residual_in, C);
    visit(layer.residual_mid, C);
    visit(layer.normed, C);
    visit(layer.post_normed, C);
    visit(layer.inverse_rms, 1);
    visit(layer.post_inverse_rms, 1);
    visit(layer.attended, config.heads * config.head_dim);
    visit(layer.log_sum_exp, config.heads);
    visit(layer.gate_up, 2 * F);
    visit(layer.gated, F);
  }
  visit(residual_, C);
  visit(hidden_, C);
  visit(inverse_rms_, 1);
  if (keep != Keep::kEverything) return;
  visit(d_.residual, C);
  visit(d_.normed, C);
  visit(d_.qkv, config.qkv_width());
  visit(d_.attended, config.heads * config.head_dim);
  visit(d_.gate_up, 2 * F);
  visit(d_.gated, F);
}

void Activations::reserve(const ModelConfig& config, std::int64_t T, Keep keep) {
  tokens_ = T;
  kept_ = keep;
  for_each_buffer(config, keep, [T](kernels::Buffer<float>& buffer, std::int64_t width) {
    buffer.reserve(static_cast<std::size_t>(T * width));
  });
}

std::int64_t Activations::bytes(const ModelConfig& config, std::int64_t T, Keep keep) {
  std::int64_t floats = 0;
  Activations none;
  none.for_each_buffer(config, keep,
                       [&](kernels::Buffer<float>&, std::int64_t width) { floats += T * width; });
  return floats * static_cast<std::int64_t>(sizeof(float));
}

Transformer::Transformer(const ModelConfig& config)
    : config_(config),
      layout_(config),
      attention_shape_{.heads = config.heads,
                       .kv_heads = config.kv_heads,
                       .head_dim = config.head_dim,
                       .scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim))},
      inverse_frequency_(inverse_frequencies(config)) {}

void Transformer::forward(const kernels::Stream& on, std::span<const float> parameters,
                          const PackedBatch& batch, Keep keep, Activations& activations) const {
  check_batch(config_, batch);
  const std::int64_t T = batch.size();
  const std::int64_t C = config_.hidden_size, F = config_.intermediate_size;
  const std::int64_t q_width = config_.heads * config_.head_dim;
  activations.reserve(config_, T, keep);
  if (T == 0) return;

  const auto weight = [&](std::int64_t offset) { return parameters.data() + offset; };
  const auto normalise = [&](float* residual, const float* branch, std::int64_t norm, float* out,
                             float* rms) {
    kernels::add_rms_norm_forward(on, T, C, config_.rms_norm_epsilon, residual, branch, weight(norm), out,
                                  rms);
  };
  // What is not kept is computed in the first layer's buffers.
  const auto block = [&](std::int64_t i) -> Activations::Layer& {
    return activations.layers_[keep == Keep::kEverything ? static_cast<std::size_t>(i) : 0];
  };

  kernels::embedding_forward(on, T, C, batch.tokens.data(), weight(layout_.embedding()),
                             block(0).residual_in.data());
  normalise(block(0).residual_in.data(), nullptr, layout_.layer(0).input_norm, block(0).normed.data(),
            block(0).inverse_rms.data());
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    const LayerOffsets& at = layout_.layer(i);
    Activations::Layer& layer = block(i);
    float* qkv = keep == Keep::kNothing ? layer.qkv.data()
                                        : activations.layers_[static_cast<std::size_t>(i)].qkv.data();

    linear(on, T, config_.qkv_width(), C, layer.normed.data(), weight(at.qkv), qkv);
    kernels::rotary(on, Rotation::kForward, T, config_.heads + config_.kv_heads, config_.head_dim,
                    batch.positions.data(), inverse_frequency_.data(), qkv, config_.qkv_width());
    kernels::attention_forward(on, attention_shape_, batch.segments, qkv, layer.attended.data(),
                               layer.log_sum_exp.data());
    linear(on, T, C, q_width, layer.attended.data(), weight(at.attention_out), layer.residual_mid.data());
    normalise(layer.residual_mid.data(), layer.residual_in.data(), at.post_norm, layer.post_normed.data(),
              layer.post_inverse_rms.data());
    linear(on, T, 2 * F, C, layer.post_normed.data(), weight(at.gate_up), layer.gate_up.data());
    kernels::swiglu_forward(on, T, F, layer.gate_up.data(), layer.gated.data());

    const bool last = i + 1 == config_.layers;
    float* residual = last ? activations.residual_.data() : block(i + 1).residual_in.data();
    linear(on, T, C, F, layer.gated.data(), weight(at.down), residual);
    normalise(residual, layer.residual_mid.data(),
              last ? layout_.final_norm() : layout_.layer(i + 1).input_norm,
              last ? activations.hidden_.data() : block(i + 1).normed.data(),
              last ? activations.inverse_rms_.data() : block(i + 1).inverse_rms.data());
  }
}

void Transformer::backward(const kernels::Stream& on, std::span<const float> parameters,
                           const PackedBatch& batch, Activations& activations,
                           std::span<const float> d_hidden, std::span<float> gradient) const {
  const std::int64_t T = batch.size();
  if (activations.kept_ != Keep::kEverything || activations.tokens_ != T) {
    throw std::logic_error(
        "Transformer::backward: needs a forward pass that kept everything of the same batch");
  }
  if (T == 0) return;
  const std::int64_t C = config_.hidden_size, F = config_.intermediate_size;
  const std::int64_t q_width = config_.heads * config_.head_dim;
  Activations::Gradients& d = activations.d_;

  const auto weight = [&](std::int64_t offset) { return parameters.data() + offset; };
  const auto d_weight = [&](std::int64_t offset) { return gradient.data() + offset; };
  // Adds to d.residual what reaches the stream through a norm.
  const auto norm_backward = [&](const float* d_out, const float* residual, std::int64_t norm,
                                 const float* rms) {
    kernels::rms_norm_backward(on, T, C, d_out, residual, weight(norm), rms, d.residual.data(),
                               d_weight(norm));
  };

  std::fill_n(d.residual.data(), T * C, 0.0f);
  norm_backward(d_hidden.data(), activations.residual_.data(), layout_.final_norm(),
                activations.inverse_rms_.data());
  for (std::int64_t i = config_.layers - 1; i >= 0; --i) {
    const LayerOffsets& at = layout_.layer(i);
    const Activations::Layer& layer = activations.layers_[static_cast<std::size_t>(i)];

    linear_backward(on, T, C, F, d.residual.data(), layer.gated.data(), weight(at.down), d.gated.data(),
                    d_weight(at.down));
    kernels::swiglu_backward(on, T, F, layer.gate_up.data(), d.gated.data(), d.gate_up.data());
    linear_backward(on, T, 2 * F, C, d.gate_up.data(), layer.post_normed.data(), weight(at.gate_up),
                    d.normed.data(), d_weight(at.gate_up));
    norm_backward(d.normed.data(), layer.residual_mid.data(), at.post_norm, layer.post_inverse_rms.data());

    linear_backward(on, T, C, q_width, d.residual.data(), layer.attended.data(), weight(at.attention_out),
                    d.attended.data(), d_weight(at.attention_out));
    kernels::attention_backward(on, attention_shape_, batch.segments, T, layer.qkv.data(),
                                layer.attended.data(), layer.log_sum_exp.data(), d.attended.data(),
                                d.qkv.data());
    kernels::rotary(on, Rotation::kBackward, T, config_.heads + config_.kv_heads, config_.head_dim,
                    batch.positions.data(), inverse_frequency_.data(), d.qkv.data(), config_.qkv_width());
    linear_backward(on, T, config_.qkv_width(), C, d.qkv.data(), layer.normed.data(), weight(at.qkv),
                    d.normed.data(), d_weight(at.qkv));
    norm_backward(d.normed.data(), layer.residual_in.data(), at.input_norm, layer.inverse_rms.data());
  }
  kernels::embedding_backward(on, T, C, batch.tokens.data(), d.residual.data(),
                              d_weight(layout_.embedding()));
}

}  // namespace infalign::model
