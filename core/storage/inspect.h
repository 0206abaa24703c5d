// What is in a file that this program reads or writes, told to a person or to a script: `infalign inspect
// PATH`.
#pragma once

#include <filesystem>
#include <string>

#include "core/json/json.h"

namespace infalign::storage {

enum class Kind { kCheckpoint, kCalibration, kModel };

/// Found by looking, not by name. Errors: as describe_json.
Kind kind_of(const std::filesystem::path& path);

/// `kind` is "checkpoint" (a step_N folder, or the checkpoint.h5 in it), "calibration" or "model" (a Hugging
/// Face folder or a .safetensors file), found by looking, not by name; the other keys tell what is in it.
/// Errors: InputError for anything else, saying what can be inspected, and for a file that is damaged.
Json describe_json(const std::filesystem::path& path);

/// The same as plain text; tensors that differ only in the number of their layer share a line.
std::string describe(const std::filesystem::path& path);

}  // namespace infalign::storage
