#include "core/text/tokenizer/precompiled.h"

#include <array>
#include <cstddef>
#include <stdexcept>

#include "core/text/tokenizer/unicode.h"
#include "core/text/utf8.h"

namespace infalign::text {
namespace {

std::string base64_decoded(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::array<int, 256> value{};
  value.fill(-1);
  for (std::size_t i = 0; i < kDigits.size(); ++i)
    value[static_cast<unsigned char>(kDigits[i])] = static_cast<int>(i);
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3 + 2);
  std::uint32_t held = 0;
  int bits = 0;
  for (const char c : text) {
    const int digit = value[static_cast<unsigned char>(c)];
    if (digit < 0) throw std::invalid_argument("'precompiled_charsmap' is not base64");
    held = held << 6 | static_cast<std::uint32_t>(digit);
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes += static_cast<char>(held >> bits & 0xFF);
  }
  return bytes;
}

std::uint32_t little_endian(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

// What a unit of a double array says: the byte that leads to it, whether something ends there, how far away
// its children are, and, for a leaf, its value.
std::uint32_t label(std::uint32_t unit) { return unit & (1u << 31 | 0xFF); }
bool has_leaf(std::uint32_t unit) { return (unit >> 8 & 1) != 0; }
std::uint32_t offset(std::uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }
std::uint32_t leaf_value(std::uint32_t unit) { return unit & ((1u << 31) - 1); }

}  // namespace

Precompiled::Precompiled(std::string_view base64) {
  const std::string table = base64_decoded(base64);
  const std::size_t trie_bytes = table.size() < 4 ? 0 : little_endian(table, 0);
  if (table.size() < 4 || trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes > table.size() - 4)
    throw std::invalid_argument("'precompiled_charsmap' is damaged: its trie does not fit");
  for (std::size_t at = 4; at < 4 + trie_bytes; at += 4) units_.push_back(little_endian(table, at));
  replacements_ = table.substr(4 + trie_bytes);
  if (find_invalid_utf8(replacements_) != std::string_view::npos)
    throw std::invalid_argument("'precompiled_charsmap' is damaged: its replacements are not UTF-8");
}

std::optional<std::string_view> Precompiled::replacement(std::string_view text) const {
  std::size_t node = offset(units_[0]);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || label(units_[node]) != byte) return std::nullopt;
    const std::uint32_t unit = units_[node];
    node ^= offset(unit);
    if (!has_leaf(unit)) continue;
    const std::size_t begin = node < units_.size() ? leaf_value(units_[node]) : replacements_.size();
    if (begin >= replacements_.size()) return std::nullopt;
    // A damaged table may point into the middle of a character.
    const std::string_view found =
        std::string_view(replacements_).substr(begin, replacements_.find('\0', begin) - begin);
    if (find_invalid_utf8(found) != std::string_view::npos) return std::nullopt;
    return found;
  }
  return std::nullopt;
}

std::string Precompiled::normalize(std::string_view text) const {
  constexpr std::size_t kLongestKey = 5;
  std::string result;
  result.reserve(text.size());
  for (std::size_t begin = 0; begin < text.size();) {
    const std::string_view grapheme = text.substr(begin, grapheme_length(text, begin));
    begin += grapheme.size();
    if (grapheme.size() <= kLongestKey) {
      if (const auto whole = replacement(grapheme)) {
        result += *whole;
        continue;
      }
    }
    for (std::size_t i = 0; i < grapheme.size();) {
      const std::string_view character = grapheme.substr(i, code_point_at(grapheme, i).length);
      result += replacement(character).value_or(character);
      i += character.size();
    }
  }
  return result;
}

}  // namespace infalign::text
