// LoRA (Hu et al. 2021): a model whose own weights are frozen, with a low-rank update on some of its matrices
// that is trained in their place. The updates are a flat buffer of their own with a map like that of the
// parameters, so that optimizer, shards and checkpoints see no more than a smaller model. Names and shapes
// are those of Hugging Face PEFT.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/model/model_config.h"
#include "core/model/parameters.h"
#include "kernels/device.h"
#include "kernels/low_rank/low_rank.h"

namespace infalign::model {

struct AdapterSettings {
  std::int64_t rank = 0;
  float alpha = 0;                   // updates count alpha / rank times
  std::vector<std::string> targets;  // modules by their last names ("q_proj"), or "all-linear"
};

/// The modules that can be adapted, as `self_attn.q_proj`, in the order of a layer.
std::vector<std::string> adaptable_modules(const ModelConfig& config);

class AdapterLayout {
 public:
  /// What a matrix of a layer has: A of all its adapted modules one below the other, then their B.
  struct Update {
    std::vector<kernels::UpdatedRows> parts;  // empty: it is as it was
    std::int64_t n = 0, k = 0;                // of the matrix
    std::int64_t a = kAbsent, b = kAbsent;    // offsets of [parts * rank, k] and [rows of parts, rank]
  };

  /// The score head of a reward model is trained whole. Errors: std::invalid_argument for a target that names
  /// no module, with the names that there are.
  AdapterLayout(const ModelConfig& config, AdapterSettings settings);

  const AdapterSettings& settings() const { return settings_; }
  float scale() const { return settings_.alpha / static_cast<float>(settings_.rank); }
  std::int64_t size() const { return size_; }  // values in the flat buffer
  /// "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", ...
  const std::vector<ParameterView>& views() const { return views_; }
  const Update& update(std::int64_t layer, Matrix which) const {
    return updates_[static_cast<std::size_t>(layer)][which];
  }
  std::int64_t score() const { return score_; }  // [1, C]; -1 without a score head
  /// The adapted modules, as `self_attn.q_proj`.
  const std::vector<std::string>& modules() const { return modules_; }

  /// The update of a matrix with these values of the flat buffer, ready for products; empty where it has
  /// none.
  void prepare(const kernels::Stream& on, std::int64_t layer, Matrix which, std::span<const float> adapter,
               kernels::LowRank& update) const;

  /// Memory that preparing all of them takes beside the flat buffer.
  std::int64_t prepared_bytes(kernels::Device device = kernels::Device::kCpu) const;

 private:
  std::int64_t add(std::string name, std::vector<std::int64_t> shape);

  AdapterSettings settings_;
  std::vector<ParameterView> views_;
  std::vector<OfEachMatrix<Update>> updates_;  // [layers]
  std::vector<std::string> modules_;
  std::int64_t size_ = 0, score_ = kAbsent;
};

/// An adapter that changes nothing: A uniform within 1 / sqrt(k) as PEFT draws it, counter-based, so the same
/// on every rank; B zero. A score head is the model's own, `score` [C]. All in the CPU's memory.
void initialise(const AdapterLayout& adapter, std::uint64_t seed, std::span<const float> score,
                std::span<float> values);

/// Adds the updates to the model's own parameters, of which `parameters` are all, or this part.
void merge(const kernels::Stream& on, const ParameterLayout& layout, const AdapterLayout& adapter,
           std::span<const float> values, std::span<float> parameters,
           std::optional<ParameterRange> part = std::nullopt);

}  // namespace infalign::model
