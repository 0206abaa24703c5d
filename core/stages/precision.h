// How the experiment computes: in what its products are and what is kept of a forward pass, from the
// configuration's words to what they mean for kernels, models and fingerprints.
#pragma once

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

/// What `memory` says of a model that is never trained.
inline kernels::Precision stored_in(const std::string& word) {
  return word == "bfloat16" ? kernels::Precision::kBfloat16 : kernels::Precision::kFloat32;
}

/// A fingerprint of a model that is held in what `memory` says.
inline std::string with_storage(const std::string& fingerprint, const std::string& word) {
  return word == "float32" ? fingerprint : fingerprint + "-in-" + word;
}

/// A fingerprint of what was computed in the experiment's precision.
inline std::string with_dtype(const std::string& fingerprint, const experiment::Experiment& experiment) {
  return experiment.dtype == "float32" ? fingerprint : fingerprint + "-" + experiment.dtype;
}

}  // namespace infalign::stages
