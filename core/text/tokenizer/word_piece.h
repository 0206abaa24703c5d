// WordPiece, BERT's model: a word is cut from the left into the longest tokens that there are; those that go
// on inside a word are written with a prefix ("##ing"). A word that cannot be cut so is unknown as a whole.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/tokenizer/construct.h"
#include "core/text/tokenizer/pieces.h"
#include "core/text/tokenizer/vocabulary.h"

namespace infalign::text {

class WordPiece {
 public:
  /// Errors: InputError naming file and construct.
  WordPiece(const Construct& construct, std::shared_ptr<const Vocabulary> vocabulary);

  /// Appends the ids of the pieces.
  void encode(const Pieces& pieces, std::vector<std::int32_t>& ids) const;

 private:
  /// False, with `ids` as they were, for a word that is unknown.
  bool append_word(std::string_view word, std::string& candidate, std::vector<std::int32_t>& ids) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::string prefix_;
  std::int64_t max_characters_;    // longer words are unknown
  std::size_t longest_token_ = 0;  // in bytes: no need to look for longer ones
  std::int32_t unknown_ = -1;
};

}  // namespace infalign::text
