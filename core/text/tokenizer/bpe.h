// Byte-pair encoding: a piece begins as one symbol a character (or as byte tokens, or as unknown); then,
// again and again, of all neighbours that the merge list joins the pair with the lowest rank is joined, the
// leftmost first.
//
// Two ideas keep it fast whatever the input. Candidates wait in a heap, so a long piece costs n log n. And a
// piece is cut beforehand at every border that no merge can ever cross: the border between characters a and b
// can be crossed only by a merge whose left token ends in a and whose right token begins with b.
// SentencePiece-like models, which see a whole document as one piece, thereby work word by word: nothing
// merges a letter with a following "▁".
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/tokenizer/construct.h"
#include "core/text/tokenizer/flat_map.h"
#include "core/text/tokenizer/pieces.h"
#include "core/text/tokenizer/vocabulary.h"

namespace infalign::text {

class Bpe {
 public:
  /// Errors: InputError naming file and construct.
  Bpe(const Construct& construct, std::shared_ptr<const Vocabulary> vocabulary);

  /// Appends the ids of the pieces.
  void encode(const Pieces& pieces, std::vector<std::int32_t>& ids) const;

 private:
  /// The first and the last character of a token, shortened to kCharacterBits: a row or column of `crossed_`.
  struct Ends {
    std::uint16_t first;
    std::uint16_t last;
  };
  struct Symbol {
    std::int32_t id;
    Ends ends;
  };
  struct Merge {
    std::uint32_t rank;
    std::int32_t id;  // of the joined token
  };
  struct Workspace;

  static constexpr unsigned kCharacterBits = 9;
  static std::uint16_t shortened(char32_t character);
  static Ends ends_of(std::string_view token);

  void read_byte_tokens(const Construct& construct);
  void read_merges(const Construct& construct);
  void add_merge(const Construct& construct, std::string_view left, std::string_view right,
                 std::uint32_t rank);

  void append_symbols(std::string_view piece, std::vector<Symbol>& symbols) const;
  bool append_byte_tokens(std::string_view character, std::vector<Symbol>& symbols) const;
  bool may_cross(const Symbol& left, const Symbol& right) const;
  void merge_segment(std::span<const Symbol> segment, Workspace& work, std::vector<std::int32_t>& ids) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  FlatMap<Symbol> symbol_of_;  // code point -> the token that is this one character
  FlatMap<Merge> merges_;      // left id << 32 | right id -> what they become
  /// Pairs of shortened characters whose border some merge crosses. Two pairs may share a place: then a
  /// border that could be cut is kept, and the result is the same.
  std::bitset<(std::size_t{1} << 2 * kCharacterBits)> crossed_;
  std::array<std::int32_t, 256> byte_tokens_;  // "<0x00>" ...; -1: none, or no byte fallback
  std::optional<Symbol> unknown_;
  bool fuse_unknown_;
  bool ignore_merges_;
};

}  // namespace infalign::text
