// The decoder's forward and backward pass as a sequence of kernels. The residual stream is never added to in
// place where it is still needed: a block's branch is written to the next buffer of the stream, and the
// kernel that normalises adds the stream before it, so that keeping everything for the backward pass costs no
// copy.
#include "core/model/transformer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>

#include "kernels/embedding/embedding.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rotary/rotary.h"
#include "kernels/swiglu/swiglu.h"

namespace infalign::model {
namespace {

using kernels::Rotation;

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

/// rows of `from` [T, width], side by side in `to`.
void gather(std::span<const std::int32_t> rows, std::int64_t width, const float* from,
            kernels::Buffer<float>& to) {
  to.reserve(rows.size() * static_cast<std::size_t>(width));
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::copy_n(from + rows[i] * width, width, to.data() + static_cast<std::int64_t>(i) * width);
}

/// The gradients of a matrix product: d_in is overwritten, d_weight is added to.
void linear_backward(const kernels::Stream& on, std::int64_t T, const kernels::Linear& matrix,
                     const float* d_out, const float* in, float* d_in, float* d_weight) {
  matrix.backward_input(on, T, d_out, d_in);
  matrix.backward_weight(on, T, d_out, in, d_weight);
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

void Transformer::forward(const kernels::Stream& on, const Weights& weights, const PackedBatch& batch,
                          Keep keep, Activations& activations) const {
  run(on, weights, batch, keep, std::nullopt, activations);
}

std::vector<float> Transformer::score(const kernels::Stream& on, const Weights& weights,
                                      const PackedBatch& batch, std::span<const std::int32_t> rows,
                                      Activations& activations) const {
  run(on, weights, batch, Keep::kNothing, rows, activations);
  std::vector<std::int32_t> all(rows.size());
  std::iota(all.begin(), all.end(), 0);
  return score_rows(*this, weights, activations, all);
}

void Transformer::run(const kernels::Stream& on, const Weights& weights, const PackedBatch& batch, Keep keep,
                      std::optional<std::span<const std::int32_t>> rows, Activations& activations) const {
  check_batch(config_, batch);
  std::int64_t T = batch.size();
  const std::int64_t C = config_.hidden_size, F = config_.intermediate_size;
  const std::int64_t q_width = config_.heads * config_.head_dim;
  activations.reserve(config_, T, keep);
  if (T == 0) return;

  const auto normalise = [&](float* residual, const float* branch, std::int64_t norm, float* out,
                             float* rms) {
    kernels::add_rms_norm_forward(on, T, C, config_.rms_norm_epsilon, residual, branch, weights.at(norm), out,
                                  rms);
  };
  // What is not kept is computed in the first layer's buffers.
  const auto block = [&](std::int64_t i) -> Activations::Layer& {
    return activations.layers_[keep == Keep::kEverything ? static_cast<std::size_t>(i) : 0];
  };

  kernels::embedding_forward(on, T, C, batch.tokens.data(), weights.at(layout_.embedding()),
                             block(0).residual_in.data());
  normalise(block(0).residual_in.data(), nullptr, layout_.layer(0).input_norm, block(0).normed.data(),
            block(0).inverse_rms.data());
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    const LayerOffsets& at = layout_.layer(i);
    const LayerMatrices& matrices = weights.layer(i);
    Activations::Layer& layer = block(i);
    const bool last = i + 1 == config_.layers;
    float* qkv = keep == Keep::kNothing ? layer.qkv.data()
                                        : activations.layers_[static_cast<std::size_t>(i)].qkv.data();

    matrices.qkv.forward(on, T, layer.normed.data(), qkv);
    kernels::rotary(on, Rotation::kForward, T, config_.heads + config_.kv_heads, config_.head_dim,
                    batch.positions.data(), inverse_frequency_.data(), qkv, config_.qkv_width());
    kernels::attention_forward(on, attention_shape_, batch.segments, qkv, layer.attended.data(),
                               layer.log_sum_exp.data());
    const float* attended = layer.attended.data();
    const float* stream = layer.residual_in.data();
    if (last && rows) {  // rows attend to no others from here on
      gather(*rows, q_width, attended, activations.chosen_attended_);
      gather(*rows, C, stream, activations.chosen_stream_);
      attended = activations.chosen_attended_.data();
      stream = activations.chosen_stream_.data();
      T = std::ssize(*rows);
    }
    matrices.attention_out.forward(on, T, attended, layer.residual_mid.data());
    normalise(layer.residual_mid.data(), stream, at.post_norm, layer.post_normed.data(),
              layer.post_inverse_rms.data());
    matrices.gate_up.forward(on, T, layer.post_normed.data(), layer.gate_up.data());
    kernels::swiglu_forward(on, T, F, layer.gate_up.data(), layer.gated.data());

    float* residual = last ? activations.residual_.data() : block(i + 1).residual_in.data();
    matrices.down.forward(on, T, layer.gated.data(), residual);
    normalise(residual, layer.residual_mid.data(),
              last ? layout_.final_norm() : layout_.layer(i + 1).input_norm,
              last ? activations.hidden_.data() : block(i + 1).normed.data(),
              last ? activations.inverse_rms_.data() : block(i + 1).inverse_rms.data());
  }
}

void Transformer::backward(const kernels::Stream& on, const Weights& weights, const PackedBatch& batch,
                           Activations& activations, std::span<const float> d_hidden,
                           std::span<float> gradient) const {
  const std::int64_t T = batch.size();
  if (activations.kept_ != Keep::kEverything || activations.tokens_ != T) {
    throw std::logic_error(
        "Transformer::backward: needs a forward pass that kept everything of the same batch");
  }
  if (T == 0) return;
  const std::int64_t C = config_.hidden_size, F = config_.intermediate_size;
  Activations::Gradients& d = activations.d_;

  const auto d_weight = [&](std::int64_t offset) { return gradient.data() + offset; };
  // Adds to d.residual what reaches the stream through a norm.
  const auto norm_backward = [&](const float* d_out, const float* residual, std::int64_t norm,
                                 const float* rms) {
    kernels::rms_norm_backward(on, T, C, d_out, residual, weights.at(norm), rms, d.residual.data(),
                               d_weight(norm));
  };

  std::fill_n(d.residual.data(), T * C, 0.0f);
  norm_backward(d_hidden.data(), activations.residual_.data(), layout_.final_norm(),
                activations.inverse_rms_.data());
  for (std::int64_t i = config_.layers - 1; i >= 0; --i) {
    const LayerOffsets& at = layout_.layer(i);
    const LayerMatrices& matrices = weights.layer(i);
    const Activations::Layer& layer = activations.layers_[static_cast<std::size_t>(i)];

    linear_backward(on, T, matrices.down, d.residual.data(), layer.gated.data(), d.gated.data(),
                    d_weight(at.down));
    kernels::swiglu_backward(on, T, F, layer.gate_up.data(), d.gated.data(), d.gate_up.data());
    linear_backward(on, T, matrices.gate_up, d.gate_up.data(), layer.post_normed.data(), d.normed.data(),
                    d_weight(at.gate_up));
    norm_backward(d.normed.data(), layer.residual_mid.data(), at.post_norm, layer.post_inverse_rms.data());

    linear_backward(on, T, matrices.attention_out, d.residual.data(), layer.attended.data(),
                    d.attended.data(), d_weight(at.attention_out));
    kernels::attention_backward(on, attention_shape_, batch.segments, T, layer.qkv.data(),
                                layer.attended.data(), layer.log_sum_exp.data(), d.attended.data(),
                                d.qkv.data());
    kernels::rotary(on, Rotation::kBackward, T, config_.heads + config_.kv_heads, config_.head_dim,
                    batch.positions.data(), inverse_frequency_.data(), d.qkv.data(), config_.qkv_width());
    linear_backward(on, T, matrices.qkv, d.qkv.data(), layer.normed.data(), d.normed.data(),
                    d_weight(at.qkv));
    norm_backward(d.normed.data(), layer.residual_in.data(), at.input_norm, layer.inverse_rms.data());
  }
  kernels::embedding_backward(on, T, C, batch.tokens.data(), d.residual.data(),
                              d_weight(layout_.embedding()));
}

}  // namespace infalign::model
