// The "added_tokens" of tokenizer.json: strings that are cut out of the text before (or, if they are
// "normalized", after) the normalizer sees it, and never reach the model. They are found by walking a byte
// trie from each place where one can begin: linear in the text for tokens of bounded length.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "core/text/tokenizer/construct.h"
#include "core/text/tokenizer/flat_map.h"
#include "core/text/tokenizer/regex.h"
#include "core/text/tokenizer/vocabulary.h"

namespace infalign::text {

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool special = false;       // left out by decode(skip_special)
  bool normalized = false;    // looked for in the normalised text
  bool strips_left = false;   // takes the white space before it,
  bool strips_right = false;  // and behind it
  bool single_word = false;   // only where no word character touches it
};

/// A stretch of text: one added token, or what stands between them.
struct Stretch {
  Span span;
  const AddedToken* token;  // nullptr: text
};

/// Finds some of the added tokens in a text: the leftmost, and there the longest.
class AddedTokenFinder {
 public:
  /// `written`: how the token stands in the text. The token outlives the finder; the first of two written
  /// alike counts.
  void add(std::string_view written, const AddedToken& token);

  /// The whole text as stretches, none empty.
  std::vector<Stretch> cut(std::string_view text) const;

 private:
  struct Match {
    Span span;
    const AddedToken* token;  // nullptr: none found
  };
  Match find(std::string_view text, std::size_t from) const;

  FlatMap<std::uint32_t> children_;                      // (node << 8 | byte) -> node; the root is 0
  std::vector<const AddedToken*> token_at_ = {nullptr};  // of each node
  std::array<bool, 256> can_begin_{};
};

class AddedTokens {
 public:
  using Normalize = std::function<std::string(std::string)>;

  /// Reads the list `part`; `normalize` writes a token as the normalizers would.
  /// Errors: InputError naming file and token, also where an id contradicts `vocabulary`.
  AddedTokens(const Json& part, const std::string& file, const Vocabulary& vocabulary,
              const Normalize& normalize);

  AddedTokens(AddedTokens&&) = default;

  const AddedTokenFinder& as_written() const { return as_written_; }
  const AddedTokenFinder& in_normalized_text() const { return in_normalized_text_; }
  const Vocabulary& vocabulary() const { return vocabulary_; }
  bool is_special(std::string_view token) const { return special_.contains(std::string(token)); }

 private:
  std::vector<AddedToken> tokens_;
  Vocabulary vocabulary_;
  std::unordered_set<std::string> special_;
  AddedTokenFinder as_written_;
  AddedTokenFinder in_normalized_text_;
};

}  // namespace infalign::text
