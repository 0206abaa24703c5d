// SentencePiece's compiled table of replacements, the "Precompiled" normalizer of tokenizer.json: 4 bytes
// (size of the trie, little-endian), the trie as a double array of 4-byte units (Darts-clone), then the
// replacements, each ended by a zero byte. The trie leads from the bytes of a character, or of a few, to
// where its replacement begins.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace infalign::text {

class Precompiled {
 public:
  /// `base64`: the table as it stands in tokenizer.json. Errors: std::invalid_argument for one that is
  /// damaged.
  explicit Precompiled(std::string_view base64);

  /// Each grapheme of up to 5 bytes, or else each of its characters, in the form that the table gives it.
  std::string normalize(std::string_view text) const;

 private:
  /// What the shortest beginning of `text` that the table knows is replaced by.
  std::optional<std::string_view> replacement(std::string_view text) const;

  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

}  // namespace infalign::text
