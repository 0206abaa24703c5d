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

/// The same with keys in the order of the file, which chat templates can see. Refuses objects of more than
/// 1000 keys, which would make it quadratic, and more than 100 levels, which would be too deep to be copied.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& name);

}  // namespace infalign::text
