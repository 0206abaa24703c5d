// The map of the flat buffer, in the order in which the forward pass reads it, and fresh weights.
#include "core/model/parameters.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string_view>

#include "kernels/parallel.h"
#include "kernels/random/philox.h"

namespace infalign::model {
namespace {

constexpr std::int64_t kGrain = 1 << 12;  // even: the two normals of a draw are made by one thread

/// The standard normals numbered 2 * pair and 2 * pair + 1 of a seed (Box and Muller).
std::pair<float, float> normal_pair(kernels::RandomKey key, std::int64_t pair) {
  const std::uint64_t bits = kernels::random_bits(key, static_cast<std::uint64_t>(pair), 0, 0);
  const double u = (static_cast<double>(bits >> 32) + 0.5) * 0x1.0p-32;  // in (0, 1)
  const double v = static_cast<double>(bits & 0xffffffff) * 0x1.0p-32;
  const double radius = std::sqrt(-2 * std::log(u));
  const double angle = 2 * std::numbers::pi * v;
  return {static_cast<float>(radius * std::cos(angle)), static_cast<float>(radius * std::sin(angle))};
}

void fill_normal(kernels::RandomKey key, std::int64_t first, float deviation, std::span<float> out) {
  kernels::parallel_for(static_cast<std::int64_t>(out.size()), kGrain,
                        [&](std::int64_t begin, std::int64_t end) {
                          for (std::int64_t i = begin; i < end; ++i) {
                            const std::int64_t number = first + i;
                            const auto [even, odd] = normal_pair(key, number / 2);
                            out[static_cast<std::size_t>(i)] = deviation * (number % 2 == 0 ? even : odd);
                          }
                        });
}

}  // namespace

ParameterLayout::ParameterLayout(const ModelConfig& config) {
  const auto add = [this](std::string name, std::vector<std::int64_t> shape) {
    const std::int64_t offset = size_;
    const std::int64_t size =
        std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<std::int64_t>());
    views_.push_back({std::move(name), std::move(shape), offset, size});
    size_ += size;
    return offset;
  };
  const std::int64_t C = config.hidden_size, F = config.intermediate_size;
  const std::int64_t q_width = config.heads * config.head_dim, kv_width = config.kv_heads * config.head_dim;

  embedding_ = add("model.embed_tokens.weight", {config.vocab_size, C});
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    LayerOffsets layer{};
    layer.input_norm = add(prefix + "input_layernorm.weight", {C});
    layer.qkv = add(prefix + "self_attn.q_proj.weight", {q_width, C});
    add(prefix + "self_attn.k_proj.weight", {kv_width, C});
    add(prefix + "self_attn.v_proj.weight", {kv_width, C});
    layer.attention_out = add(prefix + "self_attn.o_proj.weight", {C, q_width});
    layer.post_norm = add(prefix + "post_attention_layernorm.weight", {C});
    layer.gate_up = add(prefix + "mlp.gate_proj.weight", {F, C});
    add(prefix + "mlp.up_proj.weight", {F, C});
    layer.down = add(prefix + "mlp.down_proj.weight", {C, F});
    layers_.push_back(layer);
  }
  final_norm_ = add("model.norm.weight", {C});
  if (config.score_head) {
    score_ = add("score.weight", {1, C});
  } else {
    head_ = config.tie_word_embeddings ? embedding_ : add("lm_head.weight", {config.vocab_size, C});
  }
}

void initialise(const ModelConfig& config, const ParameterLayout& layout, std::uint64_t seed,
                std::span<float> parameters) {
  const kernels::RandomKey key{seed, kernels::Purpose::kInitialisation};
  const float deviation = config.initializer_range;
  const float into_residual = deviation / std::sqrt(2.0f * static_cast<float>(config.layers));
  for (const ParameterView& view : layout.views()) {
    const auto values =
        parameters.subspan(static_cast<std::size_t>(view.offset), static_cast<std::size_t>(view.size));
    const bool residual_output =
        view.name.ends_with("o_proj.weight") || view.name.ends_with("down_proj.weight");
    if (view.decayed()) {
      fill_normal(key, view.offset, residual_output ? into_residual : deviation, values);
    } else {
      std::fill(values.begin(), values.end(), 1.0f);
    }
  }
}

}  // namespace infalign::model
