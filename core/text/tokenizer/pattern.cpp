#include "core/text/tokenizer/pattern.h"

#include <stdexcept>

#include "core/json/json.h"
#include "core/text/utf8.h"

namespace infalign::text {
namespace {

Pattern regex_pattern(const Construct& construct, const std::string& expression) {
  try {
    return [regex = Regex(expression)](std::string_view text, std::vector<Span>& matches) {
      regex.find_all(text, matches);
    };
  } catch (const std::invalid_argument& error) {
    construct.refuse(error.what());
  }
}

}  // namespace

Pattern literal_pattern(std::string literal) {
  return [literal = std::move(literal)](std::string_view text, std::vector<Span>& matches) {
    if (literal.empty()) return;
    for (std::size_t begin = 0; (begin = text.find(literal, begin)) != std::string_view::npos;) {
      matches.push_back({begin, begin + literal.size()});
      begin += literal.size();
    }
  };
}

Pattern build_pattern(const Construct& construct, std::string_view key) {
  const Json& pattern = construct.object(key);
  if (pattern.size() == 1 && pattern.begin()->is_string()) {
    const std::string value = pattern.begin()->get<std::string>();
    if (pattern.begin().key() == "String") return literal_pattern(value);
    if (pattern.begin().key() == "Regex") return regex_pattern(construct, value);
  }
  construct.refuse("'" + std::string(key) + R"(' must be {"String": "..."} or {"Regex": "..."})");
}

std::function<std::string(std::string_view)> build_replacement(const Construct& construct) {
  construct.allow_only({"pattern", "content"});
  return [pattern = build_pattern(construct, "pattern"),
          content = construct.text("content")](std::string_view text) {
    std::vector<Span> matches;
    pattern(text, matches);
    std::string result;
    result.reserve(text.size());
    std::size_t done = 0;
    for (const Span match : matches) {
      result += text.substr(done, match.begin - done);
      result += content;
      done = match.end;
    }
    return result += text.substr(done);
  };
}

}  // namespace infalign::text
