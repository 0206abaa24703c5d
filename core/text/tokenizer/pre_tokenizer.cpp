#include "core/text/tokenizer/pre_tokenizer.h"

#include <utility>

#include "core/text/tokenizer/byte_level.h"
#include "core/text/tokenizer/splitting.h"
#include "core/text/tokenizer/unicode.h"
#include "core/text/utf8.h"

namespace infalign::text {
namespace {

/// Writes every piece anew: `write(piece number, piece, text)` appends what shall stand for it.
template <class Write>
void rewrite(Pieces& pieces, const Write& write) {
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

PreTokenizer build_byte_level(const Construct& construct) {
  construct.allow_only(
      {"add_prefix_space", "trim_offsets", "use_regex"});  // trim_offsets: about offsets alone
  const bool add_prefix_space = construct.flag("add_prefix_space", true);
  const bool use_regex = construct.flag("use_regex", true);
  const Pattern words = [regex = Regex(kGpt2Words)](std::string_view text, std::vector<Span>& matches) {
    regex.find_all(text, matches);
  };
  return [=](Pieces& pieces) {
    if (add_prefix_space && pieces.place != Place::kContinuation)
      rewrite(pieces, [](std::size_t, std::string_view piece, std::string& text) {
        if (!piece.starts_with(' ')) text += ' ';
        text += piece;
      });
    if (use_regex) split(pieces, words, Behaviour::kIsolated, false);
    rewrite(pieces,
            [](std::size_t, std::string_view piece, std::string& text) { append_byte_level(text, piece); });
  };
}

PreTokenizer build_digits(const Construct& construct) {
  construct.allow_only({"individual_digits"});
  const auto behaviour =
      construct.flag("individual_digits", false) ? Behaviour::kIsolated : Behaviour::kContiguous;
  const Pattern digits = [](std::string_view text, std::vector<Span>& matches) {
    for (std::size_t offset = 0; offset < text.size();) {
      const CodePoint point = code_point_at(text, offset);
      if (is_number(point.value)) matches.push_back({offset, offset + point.length});
      offset += point.length;
    }
  };
  return [=](Pieces& pieces) { split(pieces, digits, behaviour, false); };
}

PreTokenizer build_split(const Construct& construct) {
  static const std::map<std::string_view, Behaviour> kBehaviours = {
      {"Removed", Behaviour::kRemoved},
      {"Isolated", Behaviour::kIsolated},
      {"MergedWithPrevious", Behaviour::kMergedWithPrevious},
      {"MergedWithNext", Behaviour::kMergedWithNext},
      {"Contiguous", Behaviour::kContiguous},
  };
  construct.allow_only({"pattern", "behavior", "invert"});
  const auto behaviour = kBehaviours.find(construct.text("behavior"));
  if (behaviour == kBehaviours.end())
    construct.refuse("behavior '" + construct.text("behavior") + "' is not supported");
  return [pattern = build_pattern(construct, "pattern"), how = behaviour->second,
          invert = construct.flag("invert", false)](Pieces& pieces) { split(pieces, pattern, how, invert); };
}

/// SentencePiece's visible space: written for every space, and before the text (or before every stretch).
PreTokenizer build_metaspace(const Construct& construct) {
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
    rewrite(pieces, [&](std::size_t i, std::string_view piece, std::string& text) {
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
    {"ByteLevel", build_byte_level},
    {"Digits", build_digits},
    {"Metaspace", build_metaspace},
    {"Split", build_split},
};

}  // namespace

std::vector<PreTokenizer> build_pre_tokenizers(const Json& part, const std::string& file) {
  std::vector<PreTokenizer> pre_tokenizers;
  for (const Construct& construct : flattened(part, file + ": pre_tokenizer", "pretokenizers"))
    pre_tokenizers.push_back(known(kPreTokenizers, construct)(construct));
  return pre_tokenizers;
}

}  // namespace infalign::text
