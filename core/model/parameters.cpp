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
    const bool residual_output =
        view.name.ends_with("o_proj.weight") || view.name.ends_with("down_proj.weight");
    if (view.decayed()) {
      fill_normal(key, view, residual_output ? into_residual : deviation, parameters);
    } else {
      std::fill_n(parameters.data() + view.offset, view.size, 1.0f);
    }
  }
}

}  // namespace infalign::model
