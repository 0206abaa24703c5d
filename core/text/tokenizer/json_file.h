// A JSON file of a model folder, read whole.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "core/json/forward.h"

namespace infalign::text {

/// Errors: InputError naming the file (and the byte) if it cannot be read or is not JSON.
Json read_json_file(const std::filesystem::path& path);

/// The same of text that was read from the file `name`.
Json parse_json(std::string_view text, const std::string& name);

/// The same with keys in the order of the file, which chat templates can see. Refuses objects of more than
/// 1000 keys, which would make it quadratic, and more than 100 levels, which would be too deep to be copied.
OrderedJson parse_ordered_json(std::string_view text, const std::string& name);

}  // namespace infalign::text
