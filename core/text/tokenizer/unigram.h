// Unigram, SentencePiece's own model: each token has a score (a log-probability), and a piece becomes the
// tokens whose scores sum to the most. The best way to every place in the piece follows from the best ways to
// the places before it (Viterbi), which takes a walk down a byte trie from each character: linear in the text
// for tokens of bounded length.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "core/text/tokenizer/construct.h"
#include "core/text/tokenizer/flat_map.h"
#include "core/text/tokenizer/pieces.h"
#include "core/text/tokenizer/vocabulary.h"

namespace infalign::text {

class Unigram {
 public:
  /// Errors: InputError naming file and construct.
  explicit Unigram(const Construct& construct);

  std::shared_ptr<const Vocabulary> vocabulary() const { return vocabulary_; }

  /// Appends the ids of the pieces. A character that no token begins with is unknown; unknown ones in a row
  /// are one token, or the bytes of all of them. Errors: InputError where there is neither.
  void encode(const Pieces& pieces, std::vector<std::int32_t>& ids) const;

 private:
  /// The best way to a place in a piece: its last token, which begins at `begin`.
  struct Step {
    double score;
    std::size_t begin;
    std::int32_t id;  // -1: no way leads here yet
  };
  /// What is reached in the trie by some bytes; the token of these bytes, or -1.
  struct Node {
    std::int32_t id = -1;
    double score = 0;
  };

  void add_to_trie(std::string_view token, std::int32_t id, double score);
  void encode_piece(std::string_view piece, std::vector<Step>& best, std::vector<std::int32_t>& ids) const;
  void append_unknown(std::string_view text, std::vector<std::int32_t>& ids) const;

  static constexpr std::int32_t kUnknown = -2;  // the id of a step over an unknown character

  std::shared_ptr<Vocabulary> vocabulary_ = std::make_shared<Vocabulary>();
  FlatMap<std::uint32_t> children_;  // (node << 8 | byte) -> node; the root is 0
  std::vector<Node> nodes_ = std::vector<Node>(1);
  double unknown_score_ = 0;  // of a character
  std::optional<std::int32_t> unknown_;
  std::optional<std::array<std::int32_t, 256>> byte_tokens_;  // with byte fallback; -1: none
};

}  // namespace infalign::text
