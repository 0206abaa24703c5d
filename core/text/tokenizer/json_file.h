// A JSON file of a model folder, read whole.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace infalign::text {

/// Errors: InputError naming the file (and the byte) if it cannot be read or is not JSON.
nlohmann::json read_json_file(const std::filesystem::path& path);

/// The same of text that was read from the file `name`.
nlohmann::json parse_json(std::string_view text, const std::string& name);

}  // namespace infalign::text
