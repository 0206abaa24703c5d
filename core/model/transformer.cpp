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

#include "core/model/pieces.h"
#include "kernels/embedding/embedding.h"
#include "kernels/trace.h"

namespace infalign::model {
namespace {

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
void gather(const kernels::Stream& on, std::span<const std::int32_t> rows, std::int64_t width,
            kernels::ConstValues from, kernels::Buffer<float>& to) {
  to.reserve(on, rows.size() * static_cast<std::size_t>(width));
  const kernels::Mirror<std::int32_t> chosen(on, rows);
  kernels::embedding_forward(on, std::ssize(rows), width, chosen.data(), from, to.data());
}

}  // namespace

namespace {

bool keeps_keys_values(Keep keep) { return keep == Keep::kKeysValues || keep == Keep::kEverything; }
bool keeps_block_inputs(Keep keep) { return keep == Keep::kBlockInputs || keep == Keep::kEverything; }

}  // namespace

kernels::ConstValues Activations::qkv(std::int64_t layer) const {
  if (!keeps_keys_values(kept_)) throw std::logic_error("Activations::qkv: keys and values were not kept");
  return layers_[static_cast<std::size_t>(layer)].qkv.values();
}

Activations::Layer& Activations::block(std::int64_t layer) {
  return layers_[kept_ == Keep::kEverything ? static_cast<std::size_t>(layer) : 0];
}

kernels::Buffer<float>& Activations::stream(std::int64_t layer) {
  return layers_[keeps_block_inputs(kept_) ? static_cast<std::size_t>(layer) : 0].residual_in;
}

kernels::ValuesBuffer& Activations::kept_qkv(std::int64_t layer) {
  return layers_[keeps_keys_values(kept_) ? static_cast<std::size_t>(layer) : 0].qkv;
}

template <class Visit>
void Activations::for_each_buffer(const ModelConfig& config, Keep keep, Visit&& visit) {
  const std::int64_t C = config.hidden_size, F = config.intermediate_size;
  const auto layers = static_cast<std::size_t>(keep == Keep::kNothing ? 1 : config.layers);
  if (layers_.size() < layers) layers_.resize(layers);
  for (std::size_t i = 0; i < layers; ++i) {
    Layer& layer = layers_[i];
    if (i == 0 || keeps_keys_values(keep)) visit(layer.qkv, config.qkv_width());
    if (i == 0 || keeps_block_inputs(keep)) visit(layer.residual_in, C);
    if (i > 0 && keep != Keep::kEverything) continue;
    visit(layer.residual_mid, C);
    visit(layer.normed, C);
    visit(layer.mid_normed, C);
    visit(layer.inverse_rms, 1);
    visit(layer.mid_inverse_rms, 1);
    visit(layer.attended, config.q_width());
    visit(layer.log_sum_exp, config.heads);
    visit(layer.gate_up, config.gate_up_width());
    visit(layer.gated, F);
    if (config.qk_norms) {
      visit(layer.raw_qkv, config.qkv_width());
      visit(layer.qk_inverse_rms, config.heads + config.kv_heads);
    }
    if (config.norms_after_branches) {
      visit(layer.raw_attention, C);
      visit(layer.raw_feed_forward, C);
      visit(layer.attention_inverse_rms, 1);
      visit(layer.feed_forward_inverse_rms, 1);
    }
  }
  visit(residual_, C);
  visit(hidden_, C);
  visit(inverse_rms_, 1);
  if (!keeps_block_inputs(keep)) return;
  visit(d_.residual, C);
  visit(d_.normed, C);
  visit(d_.qkv, config.qkv_width());
  visit(d_.attended, config.q_width());
  visit(d_.gate_up, config.gate_up_width());
  visit(d_.gated, F);
  if (config.norms_after_branches) visit(d_.raw, C);
}

void Activations::reserve(const kernels::Stream& on, const ModelConfig& config, std::int64_t T, Keep keep,
                          kernels::Precision stored) {
  tokens_ = T;
  kept_ = keep;
  for_each_buffer(config, keep, [&](auto& buffer, std::int64_t width) {
    kernels::reserve(on, static_cast<std::size_t>(T * width), stored, buffer);
  });
}

std::int64_t Activations::bytes(const ModelConfig& config, std::int64_t T, Keep keep,
                                kernels::Precision stored) {
  std::int64_t bytes = 0;
  Activations none;
  none.for_each_buffer(config, keep, [&](const auto& buffer, std::int64_t width) {
    bytes += T * width * kernels::size_in(buffer, stored);
  });
  return bytes;
}

Transformer::Transformer(const ModelConfig& config)
    : config_(config), layout_(config), inverse_frequency_(inverse_frequencies(config)) {}

kernels::AttentionShape Transformer::attention_shape(std::int64_t layer) const {
  const float usual = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  return {.heads = config_.heads,
          .kv_heads = config_.kv_heads,
          .head_dim = config_.head_dim,
          .scale = config_.attention_scale == 0 ? usual : config_.attention_scale,
          .window = config_.layer(layer).window,
          .softcap = config_.attention_softcap};
}

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
  return score_rows(on, *this, weights, activations, all);
}

void Transformer::run(const kernels::Stream& on, const Weights& weights, const PackedBatch& batch, Keep keep,
                      std::optional<std::span<const std::int32_t>> rows, Activations& activations) const {
  check_batch(config_, batch);
  std::int64_t T = batch.size();
  const std::int64_t C = config_.hidden_size;
  activations.reserve(on, config_, T, keep, kernels::stored_on(on.device(), weights.precision()));
  if (T == 0) return;

  const Pieces pieces(on, *this, weights);
  const kernels::Mirror<std::int32_t> positions(on, batch.positions);
  const auto stream_of = [&](std::int64_t i) { return activations.stream(i).data(); };

  pieces.embed(batch.tokens, batch.positions, stream_of(0));
  weights.hold(0, 1);
  pieces.normalise(T, layout_.layer(0).input_norm, stream_of(0), nullptr,
                   activations.block(0).normed.values(), activations.block(0).inverse_rms.data());
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    kernels::pulse();
    Activations::Layer& layer = activations.block(i);
    const bool last = i + 1 == config_.layers;

    attend(on, pieces, batch, positions.data(), i, layer, activations.kept_qkv(i).values());
    kernels::ConstValues attended = layer.attended.values();
    const float* stream = stream_of(i);
    if (last && rows) {  // rows attend to no others from here on
      gather(on, *rows, config_.q_width(), attended, activations.chosen_attended_);
      gather(on, *rows, C, stream, activations.chosen_stream_);
      attended = activations.chosen_attended_.data();
      stream = activations.chosen_stream_.data();
      T = std::ssize(*rows);
    }
    gate(pieces, T, i, attended, stream, layer);

    float* residual = last ? activations.residual_.data() : stream_of(i + 1);
    pieces.feed_forward_out(T, i, layer.gated.values(),
                            {layer.raw_feed_forward.data(), layer.feed_forward_inverse_rms.data()}, residual);
    weights.hold(i + 1, last ? std::nullopt : std::optional(i + 2));
    pieces.normalise(T, last ? layout_.final_norm() : layout_.layer(i + 1).input_norm, residual,
                     layer.residual_mid.data(),
                     last ? activations.hidden_.data() : activations.block(i + 1).normed.values(),
                     last ? activations.inverse_rms_.data() : activations.block(i + 1).inverse_rms.data());
  }
}

void Transformer::attend(const kernels::Stream& on, const Pieces& pieces, const PackedBatch& batch,
                         const std::int32_t* positions, std::int64_t i, Activations::Layer& layer,
                         kernels::Values qkv) const {
  pieces.queries_keys_values(batch.size(), i, positions, layer.normed.values(),
                             {layer.raw_qkv.values(), layer.qk_inverse_rms.data()}, qkv);
  kernels::attention_forward(on, attention_shape(i), batch.segments, qkv, layer.attended.values(),
                             layer.log_sum_exp.data());
}

void Transformer::gate(const Pieces& pieces, std::int64_t T, std::int64_t i, kernels::ConstValues attended,
                       const float* stream, Activations::Layer& layer) const {
  pieces.attention_out(T, i, attended, {layer.raw_attention.data(), layer.attention_inverse_rms.data()},
                       layer.residual_mid.data());
  pieces.normalise(T, layout_.layer(i).feed_forward_norm, layer.residual_mid.data(), stream,
                   layer.mid_normed.values(), layer.mid_inverse_rms.data());
  pieces.feed_forward_in(T, i, layer.mid_normed.values(), layer.gate_up.values(), layer.gated.values());
}

void Transformer::backward(const kernels::Stream& on, const Weights& weights, const PackedBatch& batch,
                           Activations& activations, std::span<const float> d_hidden,
                           const GradientPlace& gradient, const CompleteFrom& complete_from) const {
  const std::int64_t T = batch.size();
  if (!keeps_block_inputs(activations.kept_) || activations.tokens_ != T) {
    throw std::logic_error(
        "Transformer::backward: needs a forward pass of the same batch that kept everything, or the blocks' "
        "inputs");
  }
  if (T == 0) return;
  Activations::Gradients& d = activations.d_;
  const Pieces pieces(on, *this, weights);
  const kernels::Mirror<std::int32_t> tokens(on, batch.tokens), positions(on, batch.positions);

  kernels::fill_zero(on, T * config_.hidden_size, d.residual.data());
  weights.hold(config_.layers, config_.layers - 1);
  pieces.normalise_backward(T, layout_.final_norm(), d_hidden.data(), activations.residual_.data(),
                            activations.inverse_rms_.data(), d.residual.data(), gradient);
  for (std::int64_t i = config_.layers - 1; i >= 0; --i) {
    kernels::pulse();
    weights.hold(i, i > 0 ? std::optional(i - 1) : std::nullopt);
    const LayerOffsets& at = layout_.layer(i);
    Activations::Layer& layer = activations.block(i);
    float* stream = activations.stream(i).data();
    const kernels::Values qkv = activations.kept_qkv(i).values();
    const BeforeNorm raw_feed_forward{layer.raw_feed_forward.data(), layer.feed_forward_inverse_rms.data()};
    // The last block's values are still there.
    if (activations.kept_ == Keep::kBlockInputs && i + 1 < config_.layers) {
      pieces.normalise(T, at.input_norm, stream, nullptr, layer.normed.values(), layer.inverse_rms.data());
      attend(on, pieces, batch, positions.data(), i, layer, qkv);
      gate(pieces, T, i, layer.attended.values(), stream, layer);
      if (config_.norms_after_branches)
        pieces.feed_forward_out(T, i, layer.gated.values(), raw_feed_forward, d.raw.data());
    }

    pieces.feed_forward_backward(T, i, d.residual.data(), layer.mid_normed.values(), layer.gate_up.values(),
                                 layer.gated.values(), raw_feed_forward, d.raw.data(), d.gated.values(),
                                 d.gate_up.values(), d.normed.values(), gradient);
    pieces.normalise_backward(T, at.feed_forward_norm, d.normed.values(), layer.residual_mid.data(),
                              layer.mid_inverse_rms.data(), d.residual.data(), gradient);

    pieces.attention_out_backward(T, i, d.residual.data(), layer.attended.values(),
                                  {layer.raw_attention.data(), layer.attention_inverse_rms.data()},
                                  d.raw.data(), d.attended.values(), gradient);
    kernels::attention_backward(on, attention_shape(i), batch.segments, T, qkv, layer.attended.values(),
                                layer.log_sum_exp.data(), d.attended.values(), d.qkv.values());
    pieces.queries_keys_values_backward(T, i, positions.data(),
                                        {layer.raw_qkv.values(), layer.qk_inverse_rms.data()},
                                        layer.normed.values(), d.qkv.values(), d.normed.values(), gradient);
    pieces.normalise_backward(T, at.input_norm, d.normed.values(), stream, layer.inverse_rms.data(),
                              d.residual.data(), gradient);
    if (complete_from && weights.adapter() == nullptr)
      complete_from(at.input_norm.weight);  // a layer's first tensor
  }
  pieces.embed_backward(T, tokens.data(), positions.data(), d.residual.data(), gradient);
}

}  // namespace infalign::model
