// Where Oniguruma and PCRE2 give the same characters another meaning. Published tokenizers are written for
// the former: the pre-tokenizer of BLOOM has a class within a class, and \s of PCRE2 would also take U+180E.
#include <stdexcept>

#include "core/text/tokenizer/regex.h"

namespace infalign::text {
namespace {

// What stands inside the brackets of a class; outside, brackets are put around it.
constexpr std::string_view kSpace = R"(\t-\r\x{85}\p{Z})";
constexpr std::string_view kWord = R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc})";
constexpr std::string_view kHexDigit = "0-9A-Fa-f";

std::string_view members(char escape) {
  switch (escape) {
    case 's':
    case 'S':
      return kSpace;
    case 'w':
    case 'W':
      return kWord;
    case 'h':
    case 'H':
      return kHexDigit;
    default:
      return {};
  }
}

bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

}  // namespace

std::string oniguruma_to_pcre2(std::string_view pattern) {
  std::string result;
  int depth = 0;  // of character classes
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const std::string_view rest = pattern.substr(i + 1);
    if (c == '\\' && !rest.empty()) {
      const char escape = pattern[++i];
      const std::string_view meaning = members(escape);
      // Within a class a negated set cannot be spelt out; PCRE2's own \S and \W differ in a handful of code
      // points.
      if (meaning.empty() || (depth > 0 && is_upper(escape) && escape != 'H')) {
        (result += c) += escape;
      } else if (depth > 0) {
        if (escape == 'H') throw std::invalid_argument("\\H within a character class is not supported");
        result += meaning;
      } else {
        (((result += '[') += is_upper(escape) ? "^" : "") += meaning) += ']';
      }
    } else if (c == '[' && depth > 0 && rest.starts_with(':') && rest.find(":]") != std::string_view::npos) {
      const std::size_t length = rest.find(":]") + 3;  // a POSIX class: [:alpha:]
      result += pattern.substr(i, length);
      i += length - 1;
    } else if (c == '[') {
      if (depth > 0 && rest.starts_with('^'))
        throw std::invalid_argument("a negated class within a character class is not supported");
      if (depth++ == 0) result += c;
    } else if (c == ']' && depth > 0) {
      if (--depth == 0) result += c;
    } else if (c == '&' && depth > 0 && rest.starts_with('&')) {
      throw std::invalid_argument("an intersection (&&) of character classes is not supported");
    } else {
      result += c;
    }
  }
  return result;
}

}  // namespace infalign::text
