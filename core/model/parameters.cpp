// The map of the flat buffer, in the order in which the forward pass reads it, and fresh weights.
#include "core/model/parameters.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string_view>

#include "core/model/families.h"
#include "kernels/parallel.h"
#include "kernels/random/philox.h"

namespace infalign::model {
namespace {

/// Two standard normals from 64 random bits (Box and Muller).
std::pair<double, double> normal_pair(std::uint64_t bits) {
  const double u = (static_cast<double>(bits >> 32) + 0.5) * 0x1.0p-32;  // in (0, 1)
  const double v = static_cast<double>(bits & 0xffffffff) * 0x1.0p-32;
  const double radius = std::sqrt(-2 * std::log(u));
  const double angle = 2 * std::numbers::pi * v;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

/// Values 2 p and 2 p + 1 of the flat buffer come from draw p, whichever tensors they belong to.
void fill_normal(kernels::RandomKey key, const ParameterView& view, float deviation,
                 std::span<float> parameters) {
  constexpr std::int64_t kPairs = 1 << 11;
  const std::int64_t end = view.offset + view.size, first = view.offset / 2;
  kernels::parallel_for((end + 1) / 2 - first, kPairs, [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t pair = first + from; pair < first + to; ++pair) {
      const auto [even, odd] = normal_pair(kernels::random_bits(key, static_cast<std::uint64_t>(pair), 0, 0));
      const std::int64_t i = 2 * pair;
      float* values = parameters.data() + i;
      if (i >= view.offset) values[0] = static_cast<float>(even) * deviation;
      if (i + 1 < end) values[1] = static_cast<float>(odd) * deviation;
    }
  });
}

}  // namespace

std::int64_t MatrixParts::rows() const {
  std::int64_t sum = 0;
  for (const Module& module : modules) sum += module.rows;
  return sum;
}

MatrixParts parts_of(const ModelConfig& config, Matrix which) {
  const TensorNames& names = traits_of(config.family).names;
  const std::int64_t C = config.hidden_size, F = config.intermediate_size;
  const std::int64_t kv_width = config.kv_heads * config.head_dim;
  const auto name = [](std::string_view text) { return std::string(text); };
  switch (which) {
    case Matrix::kQkv:
      if (!names.fused_qkv.empty())
        return {{{name(names.fused_qkv), config.qkv_width()}}, C, config.qkv_bias};
      return {{{name(names.q), config.q_width()}, {name(names.k), kv_width}, {name(names.v), kv_width}},
              C,
              config.qkv_bias};
    case Matrix::kAttentionOut:
      return {
          {{name(names.attention_out), C}}, config.q_width(), config.attention_out_bias, Role::kIntoResidual};
    case Matrix::kGateUp:
      if (!names.fused_gate_up.empty())
        return {{{name(names.fused_gate_up), 2 * F}}, C, config.feed_forward_bias};
      if (!config.gated) return {{{name(names.up), F}}, C, config.feed_forward_bias};
      return {{{name(names.gate), F}, {name(names.up), F}}, C, config.feed_forward_bias};
    case Matrix::kDown:
      return {{{name(names.down), C}}, F, config.feed_forward_bias, Role::kIntoResidual};
  }
  return {};
}

std::int64_t ParameterLayout::add(std::string name, std::vector<std::int64_t> shape, Role role,
                                  bool transposed) {
  const std::int64_t offset = size_;
  const std::int64_t size =
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<std::int64_t>());
  views_.push_back({std::move(name), std::move(shape), offset, size, role, transposed});
  size_ += size;
  return offset;
}

NormOffsets ParameterLayout::add_norm(const ModelConfig& config, const std::string& name) {
  NormOffsets norm{.weight = add(name + ".weight", {config.hidden_size}, Role::kNormWeight)};
  if (config.norm == Norm::kLayer) norm.bias = add(name + ".bias", {config.hidden_size}, Role::kBias);
  return norm;
}

void ParameterLayout::add_layer(const ModelConfig& config, std::int64_t i) {
  const TensorNames& names = traits_of(config.family).names;
  const std::string prefix = std::string(names.layers) + std::to_string(i) + ".";
  LayerOffsets layer;
  const auto add_linear = [&](Matrix which) {
    const MatrixParts parts = parts_of(config, which);
    LinearOffsets& at = layer.matrix[which];
    at.weight = size_;
    for (const auto& [name, rows] : parts.modules)
      add(prefix + name + ".weight", {rows, parts.in}, parts.role, names.transposed);
    if (!parts.bias) return;
    at.bias = size_;
    for (const auto& [name, rows] : parts.modules) add(prefix + name + ".bias", {rows}, Role::kBias);
  };
  const auto add_layer_norm = [&](std::string_view name) {
    return add_norm(config, prefix + std::string(name));
  };

  layer.input_norm = add_layer_norm(names.input_norm);
  add_linear(Matrix::kQkv);
  if (config.qk_norms) {
    layer.q_norm =
        add(prefix + std::string(names.q_norm) + ".weight", {config.head_dim}, Role::kHeadNormWeight);
    layer.k_norm =
        add(prefix + std::string(names.k_norm) + ".weight", {config.head_dim}, Role::kHeadNormWeight);
  }
  add_linear(Matrix::kAttentionOut);
  if (config.norms_after_branches) layer.attention_after_norm = add_layer_norm(names.attention_after_norm);
  layer.feed_forward_norm = add_layer_norm(names.feed_forward_norm);
  add_linear(Matrix::kGateUp);
  add_linear(Matrix::kDown);
  if (config.norms_after_branches)
    layer.feed_forward_after_norm = add_layer_norm(names.feed_forward_after_norm);
  layers_.push_back(layer);
}

ParameterLayout::ParameterLayout(const ModelConfig& config) {
  const TensorNames& names = traits_of(config.family).names;
  const std::int64_t V = config.vocab_size, C = config.hidden_size;
  embedding_ = add(std::string(names.embedding) + ".weight", {V, C}, Role::kMatrix);
  if (config.learned_positions)
    positions_ = add(std::string(names.positions) + ".weight", {config.max_positions, C}, Role::kMatrix);
  for (std::int64_t i = 0; i < config.layers; ++i) add_layer(config, i);
  final_norm_ = add_norm(config, std::string(names.final_norm));
  if (config.score_head) {
    score_ = add("score.weight", {1, C}, Role::kMatrix);
  } else {
    head_ = config.tie_word_embeddings ? embedding_ : add("lm_head.weight", {V, C}, Role::kMatrix);
  }
}

void initialise(const ModelConfig& config, const ParameterLayout& layout, std::uint64_t seed,
                std::span<float> parameters, std::optional<ParameterRange> part) {
  const kernels::RandomKey key{seed, kernels::Purpose::kInitialisation};
  const float deviation = config.initializer_range;
  const float into_residual = deviation / std::sqrt(2.0f * static_cast<float>(config.layers));
  for (const ParameterView& view : layout.views()) {
    const bool one = view.role == Role::kHeadNormWeight ||
                     (view.role == Role::kNormWeight && config.norm != Norm::kRmsPlusOne);
    if (part && !part->meets({view.offset, view.size})) continue;
    if (view.role == Role::kMatrix) fill_normal(key, view, deviation, parameters);
    if (view.role == Role::kIntoResidual) fill_normal(key, view, into_residual, parameters);
    if (!view.decayed()) std::fill_n(parameters.data() + view.offset, view.size, one ? 1.0f : 0.0f);
  }
}

}  // namespace infalign::model
