// A model's tensors between its safetensors files and its flat buffer: names of older files, tensors that lie
// transposed, and those that say nothing.
#pragma once

#include <filesystem>
#include <span>

#include "core/model/transformer.h"
#include "core/storage/safetensors.h"

namespace infalign::stages {

/// What a folder need not have.
enum class Require {
  kAll,
  kAllButScore,  // a backbone that is to become a reward model: no score.weight; any LM head is ignored, and
                 // layers above those of the transformer
};

/// Copies every tensor of the transformer's layout from `folder` into `parameters` [layout.size()], one after
/// another, so that beside the buffer there is never more than one of them in memory. A score head that is
/// missing is left as it is. Returns the type that holds all of them exactly.
/// Errors: InputError naming the file and the tensor for one that is missing, surplus, or of another shape.
storage::DataType read_weights(const std::filesystem::path& folder, const model::Transformer& transformer,
                               Require require, std::span<float> parameters);

/// The same into parameters that are never trained; matrices are rounded to bfloat16 as they are read.
storage::DataType read_weights(const std::filesystem::path& folder, const model::Transformer& transformer,
                               Require require, model::FrozenParameters& parameters);

/// Writes the parameters as one safetensors file, as `read_weights` reads them.
void write_weights(const std::filesystem::path& file, const model::Transformer& transformer,
                   std::span<const float> parameters, storage::DataType type);

}  // namespace infalign::stages
