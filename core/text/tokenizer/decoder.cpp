#include "core/text/tokenizer/decoder.h"

#include <charconv>
#include <optional>

#include "core/json/json.h"
#include "core/text/tokenizer/byte_level.h"
#include "core/text/tokenizer/pattern.h"
#include "core/text/utf8.h"

namespace infalign::text {
namespace {

using Tokens = std::vector<std::string>;

std::string concatenated_tokens(const Tokens& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

Decoder fuse_decoder(const Construct& construct) {
  construct.allow_only({});
  return [](Tokens& tokens, bool) { tokens = {concatenated_tokens(tokens)}; };
}

Decoder replace_decoder(const Construct& construct) {
  return [replace = build_replacement(construct)](Tokens& tokens, bool) {
    for (std::string& token : tokens) token = replace(token);
  };
}

/// The byte that a token such as "<0x0A>" stands for.
std::optional<char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  unsigned char byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  if (error != std::errc{} || end != token.data() + 5) return std::nullopt;
  return static_cast<char>(byte);
}

/// Runs of byte tokens become the text they spell or, where a run is not UTF-8, one U+FFFD for each of its
/// bytes.
Decoder byte_fallback_decoder(const Construct& construct) {
  construct.allow_only({});
  return [](Tokens& tokens, bool) {
    Tokens result;
    std::string bytes;
    const auto finish_run = [&] {
      if (bytes.empty()) return;
      const bool valid = find_invalid_utf8(bytes) == std::string_view::npos;
      if (valid) result.push_back(bytes);
      if (!valid) result.insert(result.end(), bytes.size(), "\xEF\xBF\xBD");
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const auto byte = fallback_byte(token)) {
        bytes += *byte;
      } else {
        finish_run();
        result.push_back(std::move(token));
      }
    }
    finish_run();
    tokens = std::move(result);
  };
}

/// Cuts up to `start` of the character from the front of each token and up to `stop` from its back.
Decoder strip_decoder(const Construct& construct) {
  construct.allow_only({"content", "start", "stop"});
  const std::string content = construct.character("content");
  const std::int64_t start = construct.number("start");
  const std::int64_t stop = construct.number("stop");
  if (start < 0 || stop < 0) construct.refuse("'start' and 'stop' must not be negative");
  return [=](Tokens& tokens, bool continues) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      std::string_view rest = tokens[i];
      const bool keeps_front = continues && i == 0;
      for (std::int64_t n = 0; n < start && !keeps_front && rest.starts_with(content); ++n)
        rest.remove_prefix(content.size());
      for (std::int64_t n = 0; n < stop && rest.ends_with(content); ++n) rest.remove_suffix(content.size());
      tokens[i] = std::string(rest);
    }
  };
}

/// Tokens in the byte alphabet become one text; a token that is not wholly of it stands for itself.
Decoder byte_level_decoder(const Construct& construct) {
  construct.allow_only({"add_prefix_space", "trim_offsets", "use_regex"});
  return [](Tokens& tokens, bool) {
    std::string bytes;
    for (const std::string& token : tokens) bytes += bytes_of_byte_level(token).value_or(token);
    tokens = {repaired_utf8(bytes)};
  };
}

Decoder metaspace_decoder(const Construct& construct) {
  construct.allow_only({"replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
  const std::string replacement = construct.character("replacement");
  const bool prepends = construct.flag("add_prefix_space", true) &&
                        construct.optional_text("prepend_scheme").value_or("always") != "never";
  return [=](Tokens& tokens, bool continues) {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = replaced(tokens[i], replacement, i == 0 && prepends && !continues ? "" : " ");
  };
}

/// English without the spaces that word-wise tokenizers leave.
std::string cleaned_up(std::string text) {
  static const std::pair<const char*, const char*> kReplacements[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kReplacements) text = replaced(text, from, to);
  return text;
}

/// Words are joined by spaces, what goes on inside a word is joined to it.
Decoder word_piece_decoder(const Construct& construct) {
  construct.allow_only({"prefix", "cleanup"});
  const std::string prefix = construct.optional_text("prefix").value_or("");
  const bool cleans = construct.flag("cleanup", true);
  return [=](Tokens& tokens, bool continues) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0 || continues) {
        const bool goes_on = tokens[i].starts_with(prefix);
        tokens[i] = goes_on ? tokens[i].substr(prefix.size()) : " " + tokens[i];
      }
      if (cleans) tokens[i] = cleaned_up(std::move(tokens[i]));
    }
  };
}

const std::map<std::string_view, Decoder (*)(const Construct&)> kDecoders = {
    {"ByteFallback", byte_fallback_decoder}, {"ByteLevel", byte_level_decoder}, {"Fuse", fuse_decoder},
    {"Metaspace", metaspace_decoder},        {"Replace", replace_decoder},      {"Strip", strip_decoder},
    {"WordPiece", word_piece_decoder},
};

Decoder join_with_spaces() {
  return [](Tokens& tokens, bool) {
    for (std::size_t i = 1; i < tokens.size(); ++i) tokens[i].insert(0, 1, ' ');
  };
}

}  // namespace

std::vector<Decoder> build_decoders(const Json& part, const std::string& file) {
  if (part.is_null()) return {join_with_spaces()};
  std::vector<Decoder> decoders;
  for (const Construct& construct : flattened(part, file + ": decoder", "decoders"))
    decoders.push_back(known(kDecoders, construct)(construct));
  return decoders;
}

}  // namespace infalign::text
