// The decoder: hidden states of a packed batch, and the gradient back to the parameters, written out by hand.
// The same forward serves training, scoring and the prefill of generation, so that all agree on every
// log-probability.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/model/gradient_place.h"
#include "core/model/model_config.h"
#include "core/model/packed_batch.h"
#include "core/model/parameters.h"
#include "core/model/weights.h"
#include "kernels/device.h"
#include "kernels/values.h"

namespace infalign::model {

class Pieces;

/// Told by a backward pass how far down it has come.
using CompleteFrom = std::function<void(std::int64_t offset)>;

/// What a forward pass leaves behind besides the hidden states.
enum class Keep {
  kNothing,
  kKeysValues,
  kBlockInputs,  // enough for a backward pass, which computes each block once more (Chen et al. 2016)
  kEverything,   // all that a backward pass reads
};

/// Memory of one forward pass, kept for its backward pass and reused by the next.
class Activations {
 public:
  /// After forward: final hidden states, normalised, [T, C].
  const float* hidden() const { return hidden_.data(); }
  /// After forward with Keep::kKeysValues or more: rotated q-k-v rows of a layer, [T, config.qkv_width()].
  kernels::ConstValues qkv(std::int64_t layer) const;
  /// Memory that a forward pass over T tokens leaves in use, that of its backward pass included where
  /// everything is kept, `stored` as the device stores activations.
  static std::int64_t bytes(const ModelConfig& config, std::int64_t T, Keep keep,
                            kernels::Precision stored = kernels::Precision::kFloat32);

 private:
  friend class Transformer;
  /// What one decoder block computes; its backward pass reads all of it. What products read and what goes on
  /// from them within a branch is stored as the device stores activations, the stream and statistics in
  /// float32.
  struct Layer {
    kernels::Buffer<float> residual_in, residual_mid;     // [T, C] the sums that the two norms normalise
    kernels::ValuesBuffer normed, mid_normed;             // [T, C]
    kernels::Buffer<float> inverse_rms, mid_inverse_rms;  // [T]
    kernels::ValuesBuffer qkv;                            // [T, qkv_width], rotated
    kernels::ValuesBuffer attended;                       // [T, heads * head_dim]
    kernels::Buffer<float> log_sum_exp;                   // [T, heads]
    kernels::ValuesBuffer gate_up;                        // [T, gate_up_width]
    kernels::ValuesBuffer gated;                          // [T, F]
    // Of models with norms on heads:
    kernels::ValuesBuffer raw_qkv;          // [T, qkv_width]
    kernels::Buffer<float> qk_inverse_rms;  // [T, heads + kv_heads]
    // Of models with norms after branches, what those normalise:
    kernels::Buffer<float> raw_attention, raw_feed_forward;                  // [T, C]
    kernels::Buffer<float> attention_inverse_rms, feed_forward_inverse_rms;  // [T]
  };
  /// Gradients on their way down, shared by all layers.
  struct Gradients {
    kernels::Buffer<float> residual;       // [T, C]
    kernels::ValuesBuffer normed;          // [T, C]
    kernels::ValuesBuffer qkv, attended;   // [T, qkv_width], [T, heads * head_dim]
    kernels::ValuesBuffer gate_up, gated;  // [T, gate_up_width], [T, F]
    kernels::Buffer<float> raw;            // [T, C], where norms follow branches
  };
  void reserve(const kernels::Stream& on, const ModelConfig& config, std::int64_t T, Keep keep,
               kernels::Precision stored);
  /// Calls visit(buffer, width) for each buffer [T, width] that a pass needs: the one list of them.
  template <class Visit>
  void for_each_buffer(const ModelConfig& config, Keep keep, Visit&& visit);

  /// Where a layer's block computes, and its input and its q-k-v: in the layer's own buffers what is kept, in
  /// the first layer's what is not.
  Layer& block(std::int64_t layer);
  kernels::Buffer<float>& stream(std::int64_t layer);
  kernels::ValuesBuffer& kept_qkv(std::int64_t layer);

  std::vector<Layer> layers_;
  kernels::Buffer<float> residual_, hidden_, inverse_rms_;  // of the final norm: [T, C], [T, C], [T]
  kernels::Buffer<float> chosen_attended_, chosen_stream_;  // of Transformer::score's rows
  Gradients d_;
  std::int64_t tokens_ = 0;
  Keep kept_ = Keep::kNothing;
};

class Transformer {
 public:
  explicit Transformer(const ModelConfig& config);

  const ModelConfig& config() const { return config_; }
  const ParameterLayout& layout() const { return layout_; }
  /// Of a layer: what is attended to, and how.
  kernels::AttentionShape attention_shape(std::int64_t layer) const;
  /// [rotary_dim / 2]; empty for learned positions.
  std::span<const float> inverse_frequency() const { return inverse_frequency_; }

  /// Parameters prepared for this model's passes.
  Weights prepare(const kernels::Stream& on, std::span<const float> parameters, kernels::Use use,
                  kernels::Precision precision = kernels::Precision::kFloat32) const {
    return {on, layout_, config_, parameters, use, precision};
  }
  /// The same into `weights`, whose memory is used again.
  void prepare(const kernels::Stream& on, std::span<const float> parameters, kernels::Use use,
               kernels::Precision precision, Weights& weights) const {
    weights.prepare(on, layout_, config_, parameters, use, precision);
  }

  /// Parameters in bfloat16.
  Weights prepare(const kernels::Stream& on, const NarrowParameters& parameters, kernels::Use use,
                  kernels::Precision precision = kernels::Precision::kFloat32) const {
    Weights weights;
    weights.prepare(on, layout_, config_, parameters, use, precision);
    return weights;
  }

  /// Parameters that have to be gathered, in float32, or matrices in bfloat16.
  Weights prepare(const kernels::Stream& on, const Gathering& parameters, kernels::Use use,
                  kernels::Precision precision = kernels::Precision::kFloat32) const {
    Weights weights;
    weights.prepare(on, layout_, config_, parameters, use, precision);
    return weights;
  }
  Weights prepare(const kernels::Stream& on, const NarrowParameters& vectors, const Gathering& matrices,
                  kernels::Use use, kernels::Precision precision = kernels::Precision::kFloat32) const {
    Weights weights;
    weights.prepare(on, layout_, config_, vectors, matrices, use, precision);
    return weights;
  }

  /// Runs the decoder on a batch.
  /// Errors: std::invalid_argument for a token outside the vocabulary or a position beyond max_positions.
  void forward(const kernels::Stream& on, const Weights& weights, const PackedBatch& batch, Keep keep,
               Activations& activations) const;

  /// The rewards that the score head reads at `rows` of the batch; the last layer is computed for these only.
  /// Errors: as forward.
  std::vector<float> score(const kernels::Stream& on, const Weights& weights, const PackedBatch& batch,
                           std::span<const std::int32_t> rows, Activations& activations) const;

  /// From d_hidden [T, C] (gradient of activations.hidden()) adds the gradient of the trained parameters, the
  /// model's [layout().size()] or its adapter's, to `gradient`. Needs a forward pass on the same batch and
  /// parameters that kept everything, or the blocks' inputs: the same bits, for a third more work. After each
  /// layer `complete_from(offset)`, if there is one, is told that nothing more will be added to `gradient`
  /// from there to its end; not where an adapter is trained.
  void backward(const kernels::Stream& on, const Weights& weights, const PackedBatch& batch,
                Activations& activations, std::span<const float> d_hidden, const GradientPlace& gradient,
                const CompleteFrom& complete_from = {}) const;

 private:
  /// The forward pass; with `rows`, the last hidden states are those of these rows only, side by side.
  void run(const kernels::Stream& on, const Weights& weights, const PackedBatch& batch, Keep keep,
           std::optional<std::span<const std::int32_t>> rows, Activations& activations) const;

  /// A block's attention, from layer.normed to layer.attended.
  void attend(const kernels::Stream& on, const Pieces& pieces, const PackedBatch& batch,
              const std::int32_t* positions, std::int64_t i, Activations::Layer& layer,
              kernels::Values qkv) const;
  /// The rest of a block, for T rows of `attended` and of the stream, up to layer.gated.
  void gate(const Pieces& pieces, std::int64_t T, std::int64_t i, kernels::ConstValues attended,
            const float* stream, Activations::Layer& layer) const;

  ModelConfig config_;
  ParameterLayout layout_;
  std::vector<float> inverse_frequency_;
};

/// Log-probabilities of targets under softmax(logits / temperature), logits capped where the model caps them,
/// and their gradient.
class TokenLogProbabilities {
 public:
  /// log p(targets.tokens[i]) into values(), from hidden states of `activations`.
  void forward(const kernels::Stream& on, const Transformer& transformer, const Weights& weights,
               const Activations& activations, const Targets& targets, float temperature);
  std::span<const float> values() const { return values_; }

  /// Both passes in one, for a loss that is linear in the values with coefficients d_values [n]: overwrites
  /// d_hidden [T, C] with the sum over targets, adds the head's gradient to `gradient`.
  void forward_backward(const kernels::Stream& on, const Transformer& transformer, const Weights& weights,
                        const Activations& activations, const Targets& targets, float temperature,
                        std::span<const float> d_values, std::span<float> d_hidden,
                        const GradientPlace& gradient);

  /// Memory in use for n targets, logits included, after a forward pass or (training) a backward pass too.
  static std::int64_t bytes(const ModelConfig& config, std::int64_t n, bool training);

 private:
  /// The hidden states of the targets, side by side.
  void gather(const kernels::Stream& on, const Transformer& transformer, const Activations& activations,
              const Targets& targets);

  std::int64_t count_ = 0;
  kernels::Buffer<float> gathered_, d_gathered_;
  std::vector<float> values_;
};

/// reward[i] = score . hidden[rows[i]]; the transformer has a score head.
std::vector<float> score_rows(const kernels::Stream& on, const Transformer& transformer,
                              const Weights& weights, const Activations& activations,
                              std::span<const std::int32_t> rows);

/// From d_reward: overwrites d_hidden [T, C], adds the score head's gradient to `gradient`.
void score_rows_backward(const kernels::Stream& on, const Transformer& transformer, const Weights& weights,
                         const Activations& activations, std::span<const std::int32_t> rows,
                         std::span<const float> d_reward, std::span<float> d_hidden,
                         const GradientPlace& gradient);

}  // namespace infalign::model
