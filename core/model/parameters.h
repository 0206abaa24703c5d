// All parameters of a model live in one flat float32 buffer; this is the map of it: names as Hugging Face
// writes them, shapes, offsets. Sharding, the optimizer and checkpoints see only intervals of the flat
// buffer.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/model/model_config.h"

namespace infalign::model {

/// One tensor of the flat buffer: [offset, offset + size), row-major.
struct ParameterView {
  std::string name;                 // "model.layers.0.self_attn.q_proj.weight"
  std::vector<std::int64_t> shape;  // [out, in] for matrices, as stored by Hugging Face
  std::int64_t offset = 0;
  std::int64_t size = 0;
  bool decayed() const { return shape.size() >= 2; }  // weight decay applies to matrices, not to norms
};

/// Offsets of what the forward pass reads; q, k, v and gate, up stand next to each other, so that each group
/// is one matrix: qkv [(heads + 2 kv_heads) head_dim, C], gate_up [2F, C].
struct LayerOffsets {
  std::int64_t input_norm, qkv, attention_out, post_norm, gate_up, down;
};

class ParameterLayout {
 public:
  explicit ParameterLayout(const ModelConfig& config);

  std::int64_t size() const { return size_; }  // values in the flat buffer
  const std::vector<ParameterView>& views() const { return views_; }
  const LayerOffsets& layer(std::int64_t i) const { return layers_[static_cast<std::size_t>(i)]; }
  std::int64_t embedding() const { return embedding_; }
  std::int64_t final_norm() const { return final_norm_; }
  std::int64_t head() const { return head_; }    // [V, C]; the embedding when tied; -1 with a score head
  std::int64_t score() const { return score_; }  // [1, C]; -1 without a score head

 private:
  std::vector<ParameterView> views_;
  std::vector<LayerOffsets> layers_;
  std::int64_t size_ = 0, embedding_ = -1, final_norm_ = -1, head_ = -1, score_ = -1;
};

/// Fresh weights: normal with deviation initializer_range (residual outputs divided by sqrt(2 layers)), norms
/// 1, score 0 deviation initializer_range; counter-based, so the same on every rank.
void initialise(const ModelConfig& config, const ParameterLayout& layout, std::uint64_t seed,
                std::span<float> parameters);

}  // namespace infalign::model
