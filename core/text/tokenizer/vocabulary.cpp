#include "core/text/tokenizer/vocabulary.h"

#include <algorithm>

namespace infalign::text {

bool Vocabulary::add(std::string token, std::int32_t id) {
  if (tokens_.contains(id)) return false;
  const auto [entry, added] = ids_.emplace(std::move(token), id);
  if (!added) return false;
  tokens_.emplace(id, &entry->first);
  size_ = std::max(size_, std::int64_t{id} + 1);
  return true;
}

std::optional<std::int32_t> Vocabulary::id_of(std::string_view token) const {
  const auto entry = ids_.find(token);
  if (entry == ids_.end()) return std::nullopt;
  return entry->second;
}

const std::string* Vocabulary::token_of(std::int32_t id) const {
  const auto entry = tokens_.find(id);
  return entry == tokens_.end() ? nullptr : entry->second;
}

std::string byte_token(unsigned byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string token = "<0x__>";
  token[3] = kDigits[byte >> 4];
  token[4] = kDigits[byte & 15];
  return token;
}

}  // namespace infalign::text
