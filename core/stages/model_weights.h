// A model's tensors between its safetensors files and its flat buffer: names of older files, tensors that lie
// transposed, and those that say nothing.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <span>

#include "core/model/transformer.h"
#include "core/storage/safetensors.h"
#include "distributed/communicator.h"

namespace infalign::stages {

/// What a folder need not have.
enum class Require {
  kAll,
  kAllButScore,  // a backbone that is to become a reward model: no score.weight; any LM head is ignored, and
                 // layers above those of the transformer
};

/// Copies every tensor of the transformer's layout from `folder` into `parameters` [layout.size()], one after
/// another, so that beside the buffer there is never more than one of them in memory; with `part` those that
/// have values in this interval. A score head that is missing is left as it is. Returns the type that holds
/// all of them exactly.
/// Errors: InputError naming the file and the tensor for one that is missing, surplus, or of another shape.
storage::DataType read_weights(const std::filesystem::path& folder, const model::Transformer& transformer,
                               Require require, std::span<float> parameters,
                               std::optional<distributed::Interval> part = std::nullopt);

/// The same into parameters in bfloat16; matrices are rounded to bfloat16 as they are read.
/// Vectors are read in any case.
storage::DataType read_weights(const std::filesystem::path& folder, const model::Transformer& transformer,
                               Require require, model::NarrowParameters& parameters,
                               std::optional<distributed::Interval> part = std::nullopt);

/// Gives the values [view.size] of a tensor, which stay until the next are asked for.
using ValuesOf = std::function<std::span<const float>(const model::ParameterView& view)>;
/// Of a flat buffer that is there.
ValuesOf values_in(std::span<const float> parameters);

/// Writes the parameters as one safetensors file, as `read_weights` reads them, one tensor after another.
void write_weights(const std::filesystem::path& file, const model::Transformer& transformer,
                   const ValuesOf& values_of, storage::DataType type);

}  // namespace infalign::stages
