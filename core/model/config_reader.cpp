#include "core/model/config_reader.h"

#include <cmath>

#include "core/error.h"

namespace infalign::model {

ConfigReader::ConfigReader(const Json& json, const std::string& where) : json_(json), where_(where) {
  if (!json.is_object()) throw InputError(where + ": expected a JSON object that describes a model");
}

void ConfigReader::fail(std::string_view key, const std::string& what) const {
  throw InputError(where_ + ": " + std::string(key) + ": " + what);
}

const Json* ConfigReader::find(std::string_view key) {
  read_.insert(key);
  const auto it = json_.find(key);
  return it == json_.end() || it->is_null() ? nullptr : &*it;
}

const Json& ConfigReader::require(std::string_view key) {
  if (const Json* value = find(key)) return *value;
  fail(key, "missing");
}

std::int64_t ConfigReader::positive_integer(std::string_view key, std::int64_t otherwise) {
  const Json* value = find(key);
  return value ? as_positive_integer(key, *value) : otherwise;
}

std::int64_t ConfigReader::as_positive_integer(std::string_view key, const Json& value) const {
  constexpr std::int64_t kLargest = std::int64_t{1} << 30;
  const bool sensible =
      value.is_number_integer() && value.get<std::int64_t>() > 0 && value.get<std::int64_t>() <= kLargest;
  if (!sensible) fail(key, "expected a positive integer, found " + json_text(value));
  return value.get<std::int64_t>();
}

float ConfigReader::as_positive_number(std::string_view key, const Json& value) const {
  const bool positive = value.is_number() && value.get<float>() > 0 && std::isfinite(value.get<float>());
  if (!positive) fail(key, "expected a positive number, found " + json_text(value));
  return value.get<float>();
}

float ConfigReader::positive_number(std::string_view key, float otherwise) {
  const Json* value = find(key);
  return value ? as_positive_number(key, *value) : otherwise;
}

bool ConfigReader::boolean(std::string_view key, bool otherwise) {
  const Json* value = find(key);
  if (!value) return otherwise;
  if (!value->is_boolean()) fail(key, "expected true or false, found " + json_text(*value));
  return value->get<bool>();
}

void ConfigReader::only(std::string_view key, const Json& supported) {
  const Json* value = find(key);
  if (value && *value != supported)
    fail(key, json_text(*value) + " is not supported, only " + json_text(supported));
}

void ConfigReader::refuse_unread(std::string_view family) const {
  for (const auto& [key, value] : json_.items()) {
    if (read_.contains(key) || value.is_null()) continue;
    fail(key, json_text(value) + " is not understood for a model of type " + std::string(family) +
                  ", and it could change the model's results");
  }
}

}  // namespace infalign::model
