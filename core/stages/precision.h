// How the experiment computes: in what its products are and what is kept of a forward pass, from the
// configuration's words to what they mean for kernels, models and fingerprints.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/experiment/experiment.h"
#include "core/model/transformer.h"
#include "kernels/precision.h"

namespace infalign::stages {

inline kernels::Precision precision(const experiment::Experiment& experiment) {
  return experiment.dtype == "bfloat16" ? kernels::Precision::kBfloat16 : kernels::Precision::kFloat32;
}

/// What a forward pass keeps for the gradient.
inline model::Keep kept_for_gradient(const experiment::Experiment& experiment) {
  return experiment.memory.recompute_activations ? model::Keep::kBlockInputs : model::Keep::kEverything;
}

/// What `memory` says of a model.
inline kernels::Precision stored_in(const std::string& word) {
  return word == "bfloat16" ? kernels::Precision::kBfloat16 : kernels::Precision::kFloat32;
}

/// A fingerprint of a model that is held in what `memory` says.
inline std::string with_storage(const std::string& fingerprint, const std::string& word) {
  return word == "float32" ? fingerprint : fingerprint + "-in-" + word;
}

/// What the rounding of a copy in bfloat16 of what is trained draws from; none where it is to the nearest.
inline std::optional<std::uint64_t> rounding_seed(const experiment::Experiment& experiment) {
  if (!experiment.memory.stochastic_rounding) return std::nullopt;
  return experiment.seed;
}

/// A fingerprint of a training, of an adapter or of all parameters, which passes read as `memory` says.
inline std::string with_policy_storage(const std::string& fingerprint,
                                       const experiment::Experiment& experiment,
                                       const experiment::Lora& lora) {
  const auto& memory = experiment.memory;
  if (lora.enabled() || memory.policy == "float32") return fingerprint;
  return fingerprint + "-read-in-" + memory.policy + (memory.stochastic_rounding ? "-at-random" : "");
}

/// A fingerprint of what was computed in the experiment's precision.
inline std::string with_dtype(const std::string& fingerprint, const experiment::Experiment& experiment) {
  return experiment.dtype == "float32" ? fingerprint : fingerprint + "-" + experiment.dtype;
}

}  // namespace infalign::stages
