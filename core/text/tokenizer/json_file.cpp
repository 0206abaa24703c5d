#include "core/text/tokenizer/json_file.h"

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace infalign::text {

nlohmann::json read_json_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw InputError(path.string() + ": cannot be opened");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) throw InputError(path.string() + ": cannot be read");
  return parse_json(text, path.string());
}

nlohmann::json parse_json(std::string_view text, const std::string& name) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    throw InputError(name + ": not valid JSON at byte " + std::to_string(error.byte));
  } catch (const nlohmann::json::exception& error) {
    throw InputError(name + ": not valid JSON: " + error.what());
  }
}

}  // namespace infalign::text
