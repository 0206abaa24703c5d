#include "core/text/tokenizer/word_piece.h"

#include <algorithm>
#include <utility>

#include "core/json/json.h"
#include "core/text/utf8.h"

namespace infalign::text {

WordPiece::WordPiece(const Construct& construct, std::shared_ptr<const Vocabulary> vocabulary)
    : vocabulary_(std::move(vocabulary)),
      prefix_(construct.optional_text("continuing_subword_prefix").value_or("")),
      max_characters_(construct.number("max_input_chars_per_word")) {
  construct.allow_only({"unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"});
  const std::string unknown = construct.text("unk_token");
  const auto id = vocabulary_->id_of(unknown);
  if (!id) construct.refuse("'unk_token' " + unknown + " is not in the vocabulary");
  unknown_ = *id;
  for (const auto& [token, token_id] : vocabulary_->ids())
    longest_token_ = std::max(longest_token_, token.size());
}

bool WordPiece::append_word(std::string_view word, std::string& candidate,
                            std::vector<std::int32_t>& ids) const {
  const std::size_t first = ids.size();
  for (std::size_t begin = 0; begin < word.size();) {
    const std::string_view prefix = begin == 0 ? std::string_view() : prefix_;
    std::size_t length =
        std::min(word.size() - begin, longest_token_ - std::min(longest_token_, prefix.size()));
    for (candidate.assign(prefix) += word.substr(begin, length); length > 0;
         --length, candidate.resize(prefix.size() + length)) {
      if (const auto id = vocabulary_->id_of(candidate)) {
        ids.push_back(*id);
        break;
      }
    }
    if (length == 0) {
      ids.resize(first);
      return false;
    }
    begin += length;
  }
  return true;
}

void WordPiece::encode(const Pieces& pieces, std::vector<std::int32_t>& ids) const {
  std::string candidate;
  for (std::size_t i = 0; i < pieces.spans.size(); ++i) {
    const std::string_view word = pieces[i];
    const auto characters =
        std::ranges::count_if(word, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
    if (characters > max_characters_ || !append_word(word, candidate, ids)) ids.push_back(unknown_);
  }
}

}  // namespace infalign::text
