// A Jinja template as tokens: text between tags with white space already cut as trim_blocks and lstrip_blocks
// (which transformers sets) and the signs - and + in tags ask for, and the words within tags.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace infalign::text::jinja {

enum class TokenKind {
  kText,         // to be written as it is
  kOutputBegin,  // {{
  kOutputEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,
  kString,   // text: what it stands for
  kInteger,  // text: digits
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  std::string text;
  int line;
};

/// The last token is kEnd. Errors: TemplateError "line N: ..." for a tag that does not end or a character
/// that has no meaning.
std::vector<Token> tokenize(std::string_view source);

/// "line N: what".
std::string at_line(int line, std::string_view what);

}  // namespace infalign::text::jinja
