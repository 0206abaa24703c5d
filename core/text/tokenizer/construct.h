// A part of tokenizer.json under construction: its JSON object, and where it stands, so that every complaint
// names file and construct. The readers of normalizers, pre-tokenizers, models, post-processors and decoders
// each keep a table from the construct's "type" to the function that builds it; what they share is here.
//
// A "Sequence" is flattened before any of them sees it: a list of lists of parts is a list of parts, and a
// file that nests them a million deep costs no stack.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json/forward.h"

namespace infalign::text {

class Construct {
 public:
  /// `json` outlives the construct. Errors: InputError unless it is an object.
  Construct(const Json& json, std::string where);

  const std::string& type() const { return type_; }  // empty where the file gives none
  const Json& json() const { return *json_; }

  /// The value at `key`. Errors: InputError if it is absent (and there is no fallback) or of another kind.
  std::string text(std::string_view key) const;
  std::optional<std::string> optional_text(std::string_view key) const;  // absent, null or empty: nullopt
  bool flag(std::string_view key, bool fallback) const;
  std::int64_t number(std::string_view key) const;
  const Json& object(std::string_view key) const;
  const Json& list(std::string_view key) const;

  /// The text at `key`, which must be one character.
  std::string character(std::string_view key) const;

  /// A token id found in this construct. Errors: InputError unless it is a whole number of 31 bits.
  std::int32_t token_id(const Json& value) const;

  /// An object found in this construct, to be read with the same care.
  Construct within(const Json& json, std::string_view name) const;

  /// Refuses keys that are not named: they could change the result, and nobody here would know how.
  void allow_only(std::initializer_list<std::string_view> keys) const;

  /// Throws InputError "<file>: <part> (<type>): <why>".
  [[noreturn]] void refuse(const std::string& why) const;

 private:
  const Json* find(std::string_view key) const;

  const Json* json_;
  std::string where_;
  std::string type_;
};

/// The constructs of one part of tokenizer.json in the order they act: none for null, one, or, for a
/// Sequence, those of its list `children_key`.
std::vector<Construct> flattened(const Json& part, const std::string& where, std::string_view children_key);

/// The entry of a table of constructs for `construct.type()`. Errors: InputError that lists what is known.
template <class Build>
const Build& known(const std::map<std::string_view, Build>& table, const Construct& construct) {
  if (const auto entry = table.find(construct.type()); entry != table.end()) return entry->second;
  std::string names;
  for (const auto& [name, build] : table) (names += names.empty() ? "" : ", ") += name;
  construct.refuse("this type is not supported (supported: " + names + ")");
}

}  // namespace infalign::text
