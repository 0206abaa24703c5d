// What a stage trains: all parameters of a model, or an adapter on it. Optimizer, checkpoints and shards see
// the flat buffer of either; passes see weights.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/experiment/experiment.h"
#include "core/model/adapter.h"
#include "core/stages/model_folder.h"
#include "core/stages/narrow_model.h"
#include "core/stages/run.h"
#include "core/stages/trainable.h"
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
  /// Trains `folder`'s model, which has to outlive this, and brings its weights to the device of the run,
  /// where all memory here is; an adapter begins with A drawn from `seed`. `shards` are the folder's.
  /// Collective where there are such.
  Trainee(const Run& run, const std::string& path, ModelFolder& folder, const experiment::Lora& lora,
          std::uint64_t seed, ParameterShards* shards);

  std::vector<storage::TensorPlace> tensors() const;
  Trainable trainable();
  /// Weights with the parameters as they are now.
  const model::Weights& prepare();
  /// Whether the parameters are sharded: of a model that is, if not an adapter on it, which is held whole.
  bool is_sharded() const { return is_sharded_; }
  /// As Training wants them.
  std::vector<distributed::GradientPart> gradient_parts() const;
  /// The end of the training, which left its last checkpoint in `checkpoints`: an adapter is added to the
  /// model. Gives the values of what was trained, for the CPU, one tensor after another; all ranks have to
  /// meet before they are read.
  ValuesOf finish(const std::filesystem::path& checkpoints);

 private:
  kernels::Stream on_;
  ModelFolder& folder_;
  kernels::Precision precision_;
  std::optional<model::AdapterLayout> adapter_;
  std::optional<std::uint64_t> rounding_seed_;
  std::optional<NarrowModel> narrow_;  // where passes read a model in bfloat16
  bool is_sharded_;
  kernels::Buffer<float> values_;  // of the adapter
  model::Weights base_, weights_;
};

}  // namespace infalign::stages
