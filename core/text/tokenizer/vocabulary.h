// Token strings and their ids, both ways. Ids may have gaps: a file may leave some out or put its added
// tokens far away, and what is stored never grows with the size of an id.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace infalign::text {

class Vocabulary {
 public:
  Vocabulary() = default;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  /// False, and nothing changed, if the token or the id is already there.
  bool add(std::string token, std::int32_t id);

  std::optional<std::int32_t> id_of(std::string_view token) const;

  /// The token of an id, or nullptr.
  const std::string* token_of(std::int32_t id) const;

  /// One more than the largest id; 0 if there is none.
  std::int64_t size() const { return size_; }

  const auto& ids() const { return ids_; }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };

  std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>> ids_;
  std::unordered_map<std::int32_t, const std::string*> tokens_;  // into ids_, whose nodes stay where they are
  std::int64_t size_ = 0;
};

/// The token that stands for a byte, such as "<0x0A>", where a model falls back to bytes.
std::string byte_token(unsigned byte);

}  // namespace infalign::text
