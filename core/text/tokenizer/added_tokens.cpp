#include "core/text/tokenizer/added_tokens.h"

#include <algorithm>
#include <functional>

#include "core/json/json.h"
#include "core/text/tokenizer/unicode.h"
#include "core/text/utf8.h"

namespace infalign::text {
namespace {

bool stands_alone(std::string_view text, Span span) {
  const bool word_before = span.begin > 0 && is_word(code_point_before(text, span.begin).value);
  const bool word_behind = span.end < text.size() && is_word(code_point_at(text, span.end).value);
  return !word_before && !word_behind;
}

/// `span` with the white space that its token takes with it; to the left not beyond `limit`.
Span stripped(std::string_view text, Span span, const AddedToken& token, std::size_t limit) {
  while (token.strips_left && span.begin > limit) {
    const CodePoint before = code_point_before(text, span.begin);
    if (!is_white_space(before.value)) break;
    span.begin -= before.length;
  }
  while (token.strips_right && span.end < text.size()) {
    const CodePoint behind = code_point_at(text, span.end);
    if (!is_white_space(behind.value)) break;
    span.end += behind.length;
  }
  return span;
}

AddedToken read_token(const Construct& construct) {
  construct.allow_only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token;
  token.content = construct.text("content");
  token.id = construct.token_id(construct.number("id"));
  token.special = construct.flag("special", false);
  token.normalized = construct.flag("normalized", !token.special);
  token.strips_left = construct.flag("lstrip", false);
  token.strips_right = construct.flag("rstrip", false);
  token.single_word = construct.flag("single_word", false);
  return token;
}

}  // namespace

void AddedTokenFinder::add(std::string_view written, const AddedToken& token) {
  if (written.empty()) return;
  can_begin_[static_cast<unsigned char>(written.front())] = true;
  std::uint32_t node = 0;
  for (const char c : written) {
    const std::uint64_t key = std::uint64_t{node} << 8 | static_cast<unsigned char>(c);
    if (const std::uint32_t* child = children_.find(key)) {
      node = *child;
    } else {
      node = static_cast<std::uint32_t>(token_at_.size());
      children_.set(key, node);
      token_at_.push_back(nullptr);
    }
  }
  if (!token_at_[node]) token_at_[node] = &token;
}

AddedTokenFinder::Match AddedTokenFinder::find(std::string_view text, std::size_t from) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!can_begin_[static_cast<unsigned char>(text[begin])]) continue;
    Match longest{{begin, begin}, nullptr};
    std::uint32_t node = 0;
    for (std::size_t end = begin; end < text.size();) {
      const std::uint32_t* child =
          children_.find(std::uint64_t{node} << 8 | static_cast<unsigned char>(text[end]));
      if (!child) break;
      node = *child;
      ++end;
      if (token_at_[node]) longest = {{begin, end}, token_at_[node]};
    }
    if (longest.token) return longest;
  }
  return {{text.size(), text.size()}, nullptr};
}

std::vector<Stretch> AddedTokenFinder::cut(std::string_view text) const {
  std::vector<Stretch> stretches;
  std::size_t done = 0;  // text up to here is in a stretch
  for (Match match = find(text, 0); match.token; match = find(text, match.span.end)) {
    if (match.token->single_word && !stands_alone(text, match.span)) continue;
    const Span span = stripped(text, match.span, *match.token, done);
    if (done < span.begin) stretches.push_back({{done, span.begin}, nullptr});
    stretches.push_back({span, match.token});
    done = std::max(done, span.end);
  }
  if (done < text.size()) stretches.push_back({{done, text.size()}, nullptr});
  return stretches;
}

AddedTokens::AddedTokens(const Json& part, const std::string& file, const Vocabulary& vocabulary,
                         const Normalize& normalize) {
  if (part.is_null()) return;
  const std::string where = file + ": added_tokens";
  if (!part.is_array()) Construct(part, where).refuse("must be a list");
  for (const Json& json : part) {
    const Construct construct(json, where);
    AddedToken token = read_token(construct);
    if (token.content.empty() || vocabulary_.id_of(token.content)) continue;
    const auto id_in_model = vocabulary.id_of(token.content);
    if (id_in_model ? *id_in_model != token.id : vocabulary.token_of(token.id) != nullptr)
      construct.refuse("'" + token.content + "' contradicts the model's vocabulary");
    if (!vocabulary_.add(token.content, token.id))
      construct.refuse("'" + token.content + "' has the id of another added token");
    if (token.special) special_.insert(token.content);
    tokens_.push_back(std::move(token));
  }
  // Special tokens first: where two are written alike after normalisation, the first counts.
  std::stable_partition(tokens_.begin(), tokens_.end(), std::mem_fn(&AddedToken::special));
  for (const AddedToken& token : tokens_) {
    if (token.normalized) in_normalized_text_.add(normalize(token.content), token);
    if (!token.normalized) as_written_.add(token.content, token);
  }
}

}  // namespace infalign::text
