// What a stage trains: all parameters of a model, or an adapter on it. Optimizer, checkpoints and shards see
// the flat buffer of either; passes see weights.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/experiment/experiment.h"
#include "core/model/adapter.h"
#include "core/stages/model_folder.h"
#include "core/storage/checkpoint.h"
#include "kernels/device.h"
#include "kernels/precision.h"

namespace infalign::stages {

/// The adapter that a `lora` section asks for, none where it asks for none. Errors: ConfigurationError that
/// names `path`, the section, for a target that no module of the model is called.
std::optional<model::AdapterLayout> make_adapter(const std::string& path, const model::ModelConfig& config,
                                                 const experiment::Lora& lora);

/// Every setting that decides an adapter, as exact text for fingerprints; "" where there is none.
std::string to_text(const experiment::Lora& lora);

class Trainee {
 public:
  /// Trains `folder`'s model, which has to outlive this, and brings its weights to the device of `on`, where
  /// all memory here is; an adapter begins with A drawn from `seed`.
  Trainee(const std::string& path, const kernels::Stream& on, ModelFolder& folder,
          const experiment::Lora& lora, std::uint64_t seed, kernels::Precision precision);

  std::vector<storage::TensorPlace> tensors() const;
  /// What is trained, or what this rank holds of it.
  std::span<float> parameters();
  /// Weights with the parameters as they are now.
  const model::Weights& prepare();
  /// Whether the parameters are sharded: of a model that is, if not an adapter on it, which is held whole.
  bool is_sharded() const { return folder_.is_sharded() && !adapter_; }
  /// As Training wants them.
  std::vector<distributed::GradientPart> gradient_parts() const;
  /// The end of the training: an adapter is added to the model, and the folder holds what was trained, in the
  /// way in which it holds its parameters. All ranks have to meet before it is read.
  void finish();

 private:
  kernels::Stream on_;
  ModelFolder& folder_;
  kernels::Precision precision_;
  std::optional<model::AdapterLayout> adapter_;
  kernels::Buffer<float> values_;  // of the adapter
  model::Weights base_, weights_;
};

}  // namespace infalign::stages
