#include "core/text/tokenizer/pre_tokenizer.h"

#include <optional>
#include <utility>

#include "core/text/tokenizer/byte_level.h"
#include "core/text/tokenizer/splitting.h"
#include "core/text/tokenizer/unicode.h"
#include "core/text/utf8.h"

namespace infalign::text {
namespace {

/// Writes every piece anew: `write(piece number, piece, text)` appends what shall stand for it.
template <class Write>
void rewrite_pieces(Pieces& pieces, const Write& write) {
  std::string text;
  text.reserve(pieces.text.size() + pieces.text.size() / 2);
  for (std::size_t i = 0; i < pieces.spans.size(); ++i) {
    const std::size_t begin = text.size();
    write(i, pieces[i], text);
    pieces.spans[i] = {begin, text.size()};  // read before by write; later pieces still lie in the old text
  }
  pieces.text = std::move(text);
}

/// How GPT-2 cuts text: contractions, words, numbers and signs each with at most one space before, runs of
/// white space.
constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

PreTokenizer byte_level_pre_tokenizer(const Construct& construct) {
  construct.allow_only(
      {"add_prefix_space", "trim_offsets", "use_regex"});  // trim_offsets: about offsets alone
  const bool add_prefix_space = construct.flag("add_prefix_space", true);
  const bool use_regex = construct.flag("use_regex", true);
  const Pattern words = [regex = Regex(kGpt2Words)](std::string_view text, std::vector<Span>& matches) {
    regex.find_all(text, matches);
  };
  return [=](Pieces& pieces) {
    if (add_prefix_space && pieces.place != Place::kContinuation)
      rewrite_pieces(pieces, [](std::size_t, std::string_view piece, std::string& text) {
        if (!piece.starts_with(' ')) text += ' ';
        text += piece;
      });
    if (use_regex) split(pieces, words, Behaviour::kIsolated, false);
    rewrite_pieces(pieces, [](std::size_t, std::string_view piece, std::string& text) {
      append_byte_level(text, piece);
    });
  };
}

/// Matches every character of a class, each by itself.
template <class IsInClass>
Pattern character_pattern(const IsInClass& is_in_class) {
  return [=](std::string_view text, std::vector<Span>& matches) {
    for (std::size_t offset = 0; offset < text.size();) {
      const CodePoint point = code_point_at(text, offset);
      if (is_in_class(point.value)) matches.push_back({offset, offset + point.length});
      offset += point.length;
    }
  };
}

bool is_ascii_sign(char32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

PreTokenizer digits_pre_tokenizer(const Construct& construct) {
  construct.allow_only({"individual_digits"});
  const auto behaviour =
      construct.flag("individual_digits", false) ? Behaviour::kIsolated : Behaviour::kContiguous;
  return
      [=, digits = character_pattern(is_number)](Pieces& pieces) { split(pieces, digits, behaviour, false); };
}

/// BERT's: words at white space, which is removed, and every sign by itself.
PreTokenizer bert_pre_tokenizer(const Construct& construct) {
  construct.allow_only({});
  const auto is_sign = [](char32_t c) { return is_ascii_sign(c) || is_punctuation(c); };
  return [spaces = character_pattern(is_white_space), signs = character_pattern(is_sign)](Pieces& pieces) {
    split(pieces, spaces, Behaviour::kRemoved, false);
    split(pieces, signs, Behaviour::kIsolated, false);
  };
}

PreTokenizer white_space_split_pre_tokenizer(const Construct& construct) {
  construct.allow_only({});
  return [spaces = character_pattern(is_white_space)](Pieces& pieces) {
    split(pieces, spaces, Behaviour::kRemoved, false);
  };
}

/// Runs of word characters and runs of signs, without the white space between.
PreTokenizer white_space_pre_tokenizer(const Construct& construct) {
  construct.allow_only({});
  const Pattern runs = [](std::string_view text, std::vector<Span>& matches) {
    enum class Kind { kSpace, kWord, kSign } before = Kind::kSpace;
    for (std::size_t offset = 0; offset < text.size();) {
      const CodePoint point = code_point_at(text, offset);
      const Kind kind = is_word(point.value)          ? Kind::kWord
                        : is_white_space(point.value) ? Kind::kSpace
                                                      : Kind::kSign;
      if (kind != Kind::kSpace && kind != before) matches.push_back({offset, offset});
      offset += point.length;
      if (kind != Kind::kSpace) matches.back().end = offset;
      before = kind;
    }
  };
  return [=](Pieces& pieces) { split(pieces, runs, Behaviour::kRemoved, true); };
}

/// The value of the key "behavior"; `absent` where it is not given and may be left out.
Behaviour behaviour_of(const Construct& construct, const std::optional<std::string>& absent = {}) {
  static const std::map<std::string_view, Behaviour> kBehaviours = {
      {"Removed", Behaviour::kRemoved},
      {"Isolated", Behaviour::kIsolated},
      {"MergedWithPrevious", Behaviour::kMergedWithPrevious},
      {"MergedWithNext", Behaviour::kMergedWithNext},
      {"Contiguous", Behaviour::kContiguous},
  };
  const auto given = absent ? construct.optional_text("behavior") : construct.text("behavior");
  const auto behaviour = kBehaviours.find(given.value_or(absent.value_or("")));
  if (behaviour == kBehaviours.end()) construct.refuse("behavior '" + *given + "' is not supported");
  return behaviour->second;
}

PreTokenizer punctuation_pre_tokenizer(const Construct& construct) {
  construct.allow_only({"behavior"});
  const auto is_sign = [](char32_t c) { return is_ascii_sign(c) || is_punctuation(c); };
  return [signs = character_pattern(is_sign), how = behaviour_of(construct, "Isolated")](Pieces& pieces) {
    split(pieces, signs, how, false);
  };
}

PreTokenizer split_pre_tokenizer(const Construct& construct) {
  construct.allow_only({"pattern", "behavior", "invert"});
  return [pattern = build_pattern(construct, "pattern"), how = behaviour_of(construct),
          invert = construct.flag("invert", false)](Pieces& pieces) { split(pieces, pattern, how, invert); };
}

/// SentencePiece's visible space: written for every space, and before the text (or before every stretch).
PreTokenizer metaspace_pre_tokenizer(const Construct& construct) {
  construct.allow_only({"replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
  const std::string replacement = construct.character("replacement");
  // Before there was a prepend_scheme, add_prefix_space said "always" or "never".
  const bool may_prepend = construct.flag("add_prefix_space", true);
  const std::string scheme =
      may_prepend ? construct.optional_text("prepend_scheme").value_or("always") : "never";
  if (scheme != "always" && scheme != "first" && scheme != "never")
    construct.refuse("prepend_scheme '" + scheme + "' is not supported");
  const bool cut = construct.flag("split", true);
  return [=, pattern = literal_pattern(replacement)](Pieces& pieces) {
    rewrite_pieces(pieces, [&](std::size_t i, std::string_view piece, std::string& text) {
      const Place place = pieces.place_of(i);
      const bool wants_space = place == Place::kBeginning ? scheme != "never"
                               : place == Place::kInside  ? scheme == "always"
                                                          : false;
      if (wants_space && !piece.starts_with(replacement) && !piece.starts_with(' ')) text += replacement;
      text += replaced(piece, " ", replacement);
    });
    if (cut) split(pieces, pattern, Behaviour::kMergedWithNext, false);
  };
}

const std::map<std::string_view, PreTokenizer (*)(const Construct&)> kPreTokenizers = {
    {"BertPreTokenizer", bert_pre_tokenizer},   {"ByteLevel", byte_level_pre_tokenizer},
    {"Digits", digits_pre_tokenizer},           {"Metaspace", metaspace_pre_tokenizer},
    {"Punctuation", punctuation_pre_tokenizer}, {"Split", split_pre_tokenizer},
    {"Whitespace", white_space_pre_tokenizer},  {"WhitespaceSplit", white_space_split_pre_tokenizer},
};

}  // namespace

std::vector<PreTokenizer> build_pre_tokenizers(const Json& part, const std::string& file) {
  std::vector<PreTokenizer> pre_tokenizers;
  for (const Construct& construct : flattened(part, file + ": pre_tokenizer", "pretokenizers"))
    pre_tokenizers.push_back(known(kPreTokenizers, construct)(construct));
  return pre_tokenizers;
}

}  // namespace infalign::text
