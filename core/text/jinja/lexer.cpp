#include "core/text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <optional>

#include "core/text/jinja/python_text.h"
#include "core/text/utf8.h"

namespace infalign::text::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool begins_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool goes_on_name(char c) { return begins_name(c) || is_digit(c); }

/// Python reads text files so: every kind of line end is "\n". Jinja leaves out the last one.
std::string with_plain_line_ends(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    text += source[i] == '\r' ? '\n' : source[i];
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_plain_line_ends(source)) {}

  std::vector<Token> tokens() && {
    while (position_ < source_.size()) read_text_and_tag();
    put(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& why) const { throw TemplateError(at_line(line_, why)); }

  bool at(std::string_view what) const { return rest().starts_with(what); }
  std::string_view rest() const { return std::string_view(source_).substr(position_); }

  void put(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  void advance(std::size_t bytes) {
    line_ += static_cast<int>(std::ranges::count(rest().substr(0, bytes), '\n'));
    position_ += bytes;
  }

  void skip_space() { advance(rest().size() - stripped(rest(), Sides::kLeft).size()); }

  /// Where the next tag begins, or the end of the source.
  std::size_t next_tag() const {
    for (std::size_t i = source_.find('{', position_); i < source_.size(); i = source_.find('{', i + 1))
      if (i + 1 < source_.size() && std::string_view("{%#").find(source_[i + 1]) != std::string_view::npos)
        return i;
    return source_.size();
  }

  /// The text before a tag, less what `sign` or, before a block or a comment, lstrip_blocks takes away.
  std::string_view text_before(std::size_t tag, char sign, bool is_output) const {
    const std::string_view text = std::string_view(source_).substr(position_, tag - position_);
    if (sign == '-') return stripped(text, Sides::kRight);
    if (sign == '+' || is_output) return text;
    const std::size_t line_end = text.rfind('\n');
    if (line_end == std::string_view::npos && !at_line_start_) return text;
    const std::size_t begin = line_end == std::string_view::npos ? 0 : line_end + 1;
    return stripped(text.substr(begin), Sides::kLeft).empty() ? text.substr(0, begin) : text;
  }

  void read_text_and_tag() {
    const std::size_t tag = next_tag();
    if (tag == source_.size()) {
      put(TokenKind::kText, std::string(rest()));
      return advance(rest().size());
    }
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
    const bool is_output = source_[tag + 1] == '{';
    const bool has_sign = sign == '-' || sign == '+';
    const auto text = text_before(tag, sign, is_output);
    if (!text.empty()) put(TokenKind::kText, std::string(text));
    advance(tag - position_ + (has_sign ? 3 : 2));
    if (source_[tag + 1] == '#') return skip_comment();
    if (!is_output && begins_raw()) return read_raw();
    put(is_output ? TokenKind::kOutputBegin : TokenKind::kBlockBegin, "");
    read_tag(is_output);
  }

  /// Takes the end of a tag, `-%}` with the white space and `%}` with the line end behind it, if it stands
  /// here.
  bool take_end(std::string_view end, bool is_output) {
    const bool minus = at("-" + std::string(end));
    const bool plus = !is_output && at("+" + std::string(end));
    if (!minus && !plus && !at(end)) return false;
    const std::size_t begin = position_;
    advance(end.size() + (minus || plus ? 1 : 0));
    if (minus) skip_space();
    if (!minus && !plus && !is_output && at("\n")) advance(1);
    at_line_start_ = source_[position_ - 1] == '\n' && position_ > begin;
    return true;
  }

  void skip_comment() {
    const int line = line_;
    while (!take_end("#}", false)) {
      if (position_ == source_.size()) throw TemplateError(at_line(line, "the comment does not end"));
      advance(1);
    }
  }

  /// At "raw %}", which is then taken.
  bool begins_raw() {
    const auto [begin, line] = std::pair(position_, line_);
    skip_space();
    if (at("raw")) {
      advance(3);
      skip_space();
      if (at("-%}") || at("%}")) {
        const bool minus = at("-");
        advance(minus ? 3 : 2);
        if (minus) skip_space();
        at_line_start_ = source_[position_ - 1] == '\n';
        return true;
      }
    }
    position_ = begin;
    line_ = line;
    return false;
  }

  void read_raw() {
    const int line = line_;
    const std::size_t begin = position_;
    const bool begins_line = at_line_start_;
    for (std::size_t tag; (tag = find_in(source_, "{%", position_)) != std::string::npos;) {
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
      advance(tag - position_ + (sign == '-' || sign == '+' ? 3 : 2));
      skip_space();
      if (!at("endraw")) continue;
      advance(6);
      skip_space();
      if (!take_end("%}", false)) continue;
      const auto [end, ends_line] = std::pair(position_, at_line_start_);
      position_ = begin;
      at_line_start_ = begins_line;
      tokens_.push_back({TokenKind::kText, std::string(text_before(tag, sign, false)), line});
      position_ = end;
      at_line_start_ = ends_line;
      return;
    }
    throw TemplateError(at_line(line, "the block 'raw' does not end"));
  }

  /// The words of a tag, up to its end; within brackets "}}" and "%}" are no end.
  void read_tag(bool is_output) {
    const int line = line_;
    std::string open;  // the brackets that are to be closed
    for (skip_space(); position_ < source_.size(); skip_space()) {
      if (open.empty() && take_end(is_output ? "}}" : "%}", is_output))
        return put(is_output ? TokenKind::kOutputEnd : TokenKind::kBlockEnd, "");
      read_word(open);
    }
    throw TemplateError(at_line(line, "the tag does not end"));
  }

  void read_word(std::string& open) {
    const char c = source_[position_];
    if (begins_name(c)) {
      std::size_t length = 1;
      while (length < rest().size() && goes_on_name(rest()[length])) ++length;
      return take(TokenKind::kName, length);
    }
    if (is_digit(c)) return read_number();
    if (c == '\'' || c == '"') return read_string(c);
    constexpr std::array kLong = {"//", "**", "==", "!=", "<=", ">="};
    const bool is_long = std::ranges::any_of(kLong, [&](const char* word) { return at(word); });
    if (!is_long && std::string_view("+-*/%~[](){}<>=.:|,").find(c) == std::string_view::npos)
      fail("unexpected character '" + std::string(rest().substr(0, code_point_at(rest(), 0).length)) + "'");
    if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty() || open.back() != c) fail("unexpected '" + std::string(1, c) + "'");
      open.pop_back();
    }
    take(TokenKind::kOperator, is_long ? 2 : 1);
  }

  void take(TokenKind kind, std::size_t length) {
    put(kind, std::string(rest().substr(0, length)));
    advance(length);
  }

  /// The length of "e5" or "E-5" if `text` begins so, else 0.
  static std::size_t exponent_length(std::string_view text) {
    if (!text.starts_with('e') && !text.starts_with('E')) return 0;
    const std::size_t sign = text.size() > 1 && (text[1] == '+' || text[1] == '-') ? 1 : 0;
    std::size_t end = 1 + sign;
    while (end < text.size() && is_digit(text[end])) ++end;
    return end == 1 + sign ? 0 : end;
  }

  void read_number() {
    std::size_t length = 0;
    const auto digits = [&] {
      while (length < rest().size() && is_digit(rest()[length])) ++length;
    };
    digits();
    bool is_float = false;
    const bool behind_dot = position_ > 0 && source_[position_ - 1] == '.';  // a.0.1 are two items
    if (!behind_dot && length + 1 < rest().size() && rest()[length] == '.' && is_digit(rest()[length + 1])) {
      is_float = true;
      ++length;
      digits();
    }
    if (const std::size_t exponent = exponent_length(rest().substr(length)); exponent > 0 && !behind_dot) {
      is_float = true;
      length += exponent;
    }
    if (length < rest().size() && goes_on_name(rest()[length]))
      fail("a number such as '" + std::string(rest().substr(0, length + 1)) + "' is not supported");
    if (!is_float && length > 1 && rest()[0] == '0' &&
        rest().substr(0, length).find_first_not_of('0') != std::string_view::npos)
      fail("a number that begins with 0 is not supported");
    take(is_float ? TokenKind::kFloat : TokenKind::kInteger, length);
  }

  /// A string with Python's escapes.
  void read_string(char quote) {
    const int line = line_;
    std::string text;
    advance(1);
    while (position_ < source_.size() && !at(std::string_view(&quote, 1))) {
      if (at("\\")) {
        read_escape(text);
      } else {
        text += source_[position_];
        advance(1);
      }
    }
    if (position_ == source_.size()) throw TemplateError(at_line(line, "the string does not end"));
    advance(1);
    tokens_.push_back({TokenKind::kString, std::move(text), line});
  }

  void read_escape(std::string& text) {
    if (position_ + 1 == source_.size()) fail("the string does not end");
    const char c = source_[position_ + 1];
    constexpr std::string_view kPlain = "\\'\"nrtabfv";
    if (const auto which = kPlain.find(c); which != std::string_view::npos) {
      text += "\\'\"\n\r\t\a\b\f\v"[which];
      return advance(2);
    }
    if (c == '\n') return advance(2);
    if (is_digit(c) || c == 'N') fail("the escape \\" + std::string(1, c) + " is not supported");
    const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {  // Python leaves it as it is
      text += '\\';
      return advance(1);
    }
    char32_t value = 0;
    for (const char digit : rest().substr(2, digits)) {
      const auto hex = std::string_view("0123456789abcdef0123456789ABCDEF").find(digit);
      if (hex == std::string_view::npos) fail("a \\" + std::string(1, c) + " that is cut short");
      value = value << 4 | static_cast<char32_t>(hex % 16);
    }
    if (rest().size() < 2 + digits || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
      fail("\\" + std::string(1, c) + " must name a character");
    append_utf8(text, value);
    advance(2 + digits);
  }

  std::string source_;
  std::size_t position_ = 0;
  int line_ = 1;
  bool at_line_start_ = true;  // the last tag took the line end behind it
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).tokens(); }

std::string at_line(int line, std::string_view what) {
  return "line " + std::to_string(line) + ": " + std::string(what);
}

}  // namespace infalign::text::jinja
