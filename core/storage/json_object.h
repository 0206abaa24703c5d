// A file that is one JSON object, such as the configuration in a model folder.
#pragma once

#include <filesystem>

#include "core/json/forward.h"

namespace infalign::storage {

/// Errors: InputError naming the file if it cannot be read or is anything else.
Json read_json_object(const std::filesystem::path& file);

}  // namespace infalign::storage
