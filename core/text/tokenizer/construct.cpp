#include "core/text/tokenizer/construct.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"
#include "core/json/json.h"
#include "core/text/utf8.h"

namespace infalign::text {

Construct::Construct(const Json& json, std::string where) : json_(&json), where_(std::move(where)) {
  if (!json.is_object()) refuse("expected a JSON object");
  if (const Json* type = find("type"); type && type->is_string()) type_ = type->get<std::string>();
}

const Json* Construct::find(std::string_view key) const {
  const auto entry = json_->find(key);
  return entry == json_->end() ? nullptr : &*entry;
}

std::string Construct::text(std::string_view key) const {
  const Json* value = find(key);
  if (!value || !value->is_string()) refuse("'" + std::string(key) + "' must be a string");
  return value->get<std::string>();
}

std::optional<std::string> Construct::optional_text(std::string_view key) const {
  const Json* value = find(key);
  if (!value || value->is_null()) return std::nullopt;
  std::string found = text(key);
  if (found.empty()) return std::nullopt;
  return found;
}

bool Construct::flag(std::string_view key, bool fallback) const {
  const Json* value = find(key);
  if (!value || value->is_null()) return fallback;
  if (!value->is_boolean()) refuse("'" + std::string(key) + "' must be true or false");
  return value->get<bool>();
}

std::int64_t Construct::number(std::string_view key) const {
  const Json* value = find(key);
  if (!value || !value->is_number_integer()) refuse("'" + std::string(key) + "' must be a whole number");
  return value->get<std::int64_t>();
}

const Json& Construct::object(std::string_view key) const {
  const Json* value = find(key);
  if (!value || !value->is_object()) refuse("'" + std::string(key) + "' must be an object");
  return *value;
}

const Json& Construct::list(std::string_view key) const {
  const Json* value = find(key);
  if (!value || !value->is_array()) refuse("'" + std::string(key) + "' must be a list");
  return *value;
}

std::string Construct::character(std::string_view key) const {
  std::string found = text(key);
  if (found.empty() || code_point_at(found, 0).length != found.size())
    refuse("'" + std::string(key) + "' must be one character");
  return found;
}

std::int32_t Construct::token_id(const Json& value) const {
  constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();
  const std::int64_t id = value.is_number_integer() ? value.get<std::int64_t>() : -1;
  if (id < 0 || id > kLargest) refuse("a token id must be a whole number of 31 bits");
  return static_cast<std::int32_t>(id);
}

Construct Construct::within(const Json& json, std::string_view name) const {
  return Construct(json, where_ + ", '" + std::string(name) + "'");
}

void Construct::allow_only(std::initializer_list<std::string_view> keys) const {
  for (const auto& [key, value] : json_->items())
    if (key != "type" && std::ranges::find(keys, key) == keys.end()) refuse("'" + key + "' is not supported");
}

void Construct::refuse(const std::string& why) const {
  throw InputError(where_ + (type_.empty() ? "" : " (" + type_ + ")") + ": " + why);
}

std::vector<Construct> flattened(const Json& part, const std::string& where, std::string_view children_key) {
  std::vector<Construct> parts;
  std::vector<Construct> pending;  // a stack: the next to act on top
  if (!part.is_null()) pending.emplace_back(part, where);
  while (!pending.empty()) {
    const Construct next = std::move(pending.back());
    pending.pop_back();
    if (next.type() != "Sequence") {
      parts.push_back(next);
      continue;
    }
    next.allow_only({children_key});
    const Json& children = next.list(children_key);
    for (auto child = children.rbegin(); child != children.rend(); ++child)
      pending.emplace_back(*child, where);
  }
  return parts;
}

}  // namespace infalign::text
