// All parameters of a model live in one flat float32 buffer; this is the map of it: names as Hugging Face
// writes them, shapes, offsets. Sharding, the optimizer and checkpoints see only intervals of the flat
// buffer.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/model/model_config.h"

namespace infalign::model {

/// What a tensor is for, which decides what it is at first.
enum class Role {
  kMatrix,
  kIntoResidual,    // a matrix that ends a branch of a block
  kNormWeight,      // as ModelConfig::norm has it
  kHeadNormWeight,  // of queries' and keys' heads
  kBias,
};

/// One tensor of the flat buffer: [offset, offset + size), row-major.
struct ParameterView {
  std::string name;                 // "model.layers.0.self_attn.q_proj.weight"
  std::vector<std::int64_t> shape;  // [out, in] for matrices
  std::int64_t offset = 0;
  std::int64_t size = 0;
  Role role = Role::kMatrix;
  bool transposed = false;                            // model files hold it as [in, out] (GPT-2)
  bool decayed() const { return shape.size() >= 2; }  // weight decay applies to matrices, not to norms
};

constexpr std::int64_t kAbsent = -1;

/// Values [offset, offset + size) of the flat buffer.
struct ParameterRange {
  std::int64_t offset = 0, size = 0;
  bool meets(const ParameterRange& other) const {
    return offset < other.offset + other.size && other.offset < offset + size;
  }
  /// The values of both, where they meet.
  ParameterRange common(const ParameterRange& other) const {
    const std::int64_t begin = std::max(offset, other.offset);
    return {begin, std::min(offset + size, other.offset + other.size) - begin};
  }
};

/// Where a norm's weight stands, and its bias if it has one.
struct NormOffsets {
  std::int64_t weight = kAbsent, bias = kAbsent;
};

/// The same of a matrix.
struct LinearOffsets {
  std::int64_t weight = kAbsent, bias = kAbsent;
};

/// The matrices of a layer. q, k, v and gate, up stand next to each other, so that each group is one matrix
/// with one bias: qkv [(heads + 2 kv_heads) head_dim, C], gate_up [2F, C] ([F, C] not gated).
enum class Matrix { kQkv, kAttentionOut, kGateUp, kDown };
constexpr std::array kMatrices = {Matrix::kQkv, Matrix::kAttentionOut, Matrix::kGateUp, Matrix::kDown};
/// One of something for each of them.
template <class T>
struct OfEachMatrix : std::array<T, kMatrices.size()> {
  T& operator[](Matrix which) { return this->data()[static_cast<std::size_t>(which)]; }
  const T& operator[](Matrix which) const { return this->data()[static_cast<std::size_t>(which)]; }
};

/// What a matrix of a layer is put together from: the modules of the family, one below the other.
struct MatrixParts {
  struct Module {
    std::string name;  // behind the layer's, "self_attn.q_proj"
    std::int64_t rows = 0;
  };
  std::vector<Module> modules;
  std::int64_t in = 0;  // columns
  bool bias = false;
  Role role = Role::kMatrix;

  std::int64_t rows() const;
};
MatrixParts parts_of(const ModelConfig& config, Matrix which);

/// Offsets of what the forward pass reads.
struct LayerOffsets {
  NormOffsets input_norm, feed_forward_norm;
  NormOffsets attention_after_norm, feed_forward_after_norm;  // where branches end in norms
  OfEachMatrix<LinearOffsets> matrix;
  std::int64_t q_norm = kAbsent, k_norm = kAbsent;  // [head_dim]
};

class ParameterLayout {
 public:
  explicit ParameterLayout(const ModelConfig& config);

  std::int64_t size() const { return size_; }  // values in the flat buffer
  const std::vector<ParameterView>& views() const { return views_; }
  std::int64_t layers() const { return std::ssize(layers_); }
  const LayerOffsets& layer(std::int64_t i) const { return layers_[static_cast<std::size_t>(i)]; }
  std::int64_t embedding() const { return embedding_; }
  std::int64_t positions() const { return positions_; }  // [max_positions, C]; -1 where they are rotary
  const NormOffsets& final_norm() const { return final_norm_; }
  std::int64_t head() const { return head_; }    // [V, C]; the embedding when tied; -1 with a score head
  std::int64_t score() const { return score_; }  // [1, C]; -1 without a score head

 private:
  std::vector<ParameterView> views_;
  std::vector<LayerOffsets> layers_;
  std::int64_t add(std::string name, std::vector<std::int64_t> shape, Role role, bool transposed = false);
  NormOffsets add_norm(const ModelConfig& config, const std::string& name);
  void add_layer(const ModelConfig& config, std::int64_t i);

  NormOffsets final_norm_;
  std::int64_t size_ = 0, embedding_ = kAbsent, positions_ = kAbsent, head_ = kAbsent, score_ = kAbsent;
};

/// Fresh weights: normal with deviation initializer_range (residual outputs divided by sqrt(2 layers)), norms
/// that change no scale, biases 0; counter-based, so the same on every rank. With `part` only of tensors that
/// have values in it.
void initialise(const ModelConfig& config, const ParameterLayout& layout, std::uint64_t seed,
                std::span<float> parameters, std::optional<ParameterRange> part = std::nullopt);

}  // namespace infalign::model
