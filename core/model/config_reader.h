// A JSON object that remembers which of its keys were asked for, so that every key is accounted for: what
// nobody read and what is not known to be harmless is refused by name, and a model that we do not compute
// correctly is never run as if it were one that we do.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>

#include "core/json/json.h"

namespace infalign::model {

/// Every failure is an InputError that names `where` and the key.
class ConfigReader {
 public:
  /// Both arguments have to outlive the reader.
  ConfigReader(const Json& json, const std::string& where);

  [[noreturn]] void fail(std::string_view key, const std::string& what) const;

  /// The value of `key`, or nullptr where it is absent or null.
  const Json* find(std::string_view key);
  const Json& require(std::string_view key);

  std::int64_t positive_integer(std::string_view key) { return as_positive_integer(key, require(key)); }
  std::int64_t positive_integer(std::string_view key, std::int64_t otherwise);
  std::int64_t as_positive_integer(std::string_view key, const Json& value) const;
  float as_positive_number(std::string_view key, const Json& value) const;
  float positive_number(std::string_view key, float otherwise);
  bool boolean(std::string_view key, bool otherwise);

  /// Where `key` is given at all, it has to have the one value that is supported.
  void only(std::string_view key, const Json& supported);

  /// The key changes nothing.
  void ignore(std::string_view key) { read_.insert(key); }

  /// To be called last: refuses what nobody asked for.
  void refuse_unread(std::string_view family) const;

 private:
  const Json& json_;
  const std::string& where_;
  std::unordered_set<std::string_view> read_;
};

}  // namespace infalign::model
