#include "core/text/jinja/python_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

#include "core/text/utf8.h"

namespace infalign::text::jinja {
namespace {

bool is_line_end(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool is_ascii_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
char ascii_upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }

void require_ascii(std::string_view text, const char* what) {
  if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) >= 0x80; }))
    throw TemplateError(std::string(what) + " of letters beyond ASCII is not supported");
}

std::size_t find_right(std::string_view text, std::string_view part, std::size_t end) {
  return end < part.size() ? std::string_view::npos : text.rfind(part, end - part.size());
}

/// A float as Python's repr writes it: the shortest digits that read back the same.
std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 64> buffer{};
  const double size = std::abs(value);
  const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
  const auto format = plain ? std::chars_format::fixed : std::chars_format::scientific;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format).ptr;
  std::string text(buffer.data(), end);
  if (plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

void append_hex(std::string& text, char32_t value, int digits) {
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) text += "0123456789abcdef"[value >> shift & 15];
}

bool is_printable(char32_t c) {
  if (c < 0x80) return c >= 0x20 && c < 0x7F;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

/// A string as Python's repr quotes it.
std::string python_quoted(std::string_view text) {
  const bool single = text.find('\'') == std::string_view::npos || text.find('"') != std::string_view::npos;
  const char32_t quote = single ? '\'' : '"';
  std::string result(1, static_cast<char>(quote));
  for (std::size_t offset = 0; offset < text.size();) {
    const auto [c, length] = code_point_at(text, offset);
    if (c == quote || c == '\\') {
      (result += '\\') += static_cast<char>(c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
      (result += '\\') += c == '\n' ? 'n' : c == '\r' ? 'r' : 't';
    } else if (is_printable(c)) {
      result += text.substr(offset, length);
    } else {
      result += c < 0x100 ? "\\x" : c < 0x10000 ? "\\u" : "\\U";
      append_hex(result, c, c < 0x100 ? 2 : c < 0x10000 ? 4 : 8);
    }
    offset += length;
  }
  return result += static_cast<char>(quote);
}

std::string number_text(const Value& value) {
  if (value.is_bool()) return value.truth() ? "True" : "False";
  return value.is_float() ? float_text(value.floating()) : std::to_string(value.integer());
}

std::string repr(const Value& value) {
  if (value.is_string()) return python_quoted(value.string());
  if (value.is_undefined()) return "Undefined";
  return to_text(value);
}

std::string json_string(std::string_view text, bool ascii_only) {
  std::string result = "\"";
  for (std::size_t offset = 0; offset < text.size();) {
    const auto [c, length] = code_point_at(text, offset);
    constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b";
    const auto escape = c < 0x80 ? kEscaped.find(static_cast<char>(c)) : std::string_view::npos;
    if (escape != std::string_view::npos) {
      (result += '\\') += "\"\\nrtfb"[escape];
    } else if (c >= 0x20 && (c < 0x7F || !ascii_only)) {
      result += text.substr(offset, length);
    } else if (c == 0x7F) {
      result += static_cast<char>(c);
    } else {
      const bool pair = c >= 0x10000;
      append_hex(result += "\\u", pair ? 0xD800 + ((c - 0x10000) >> 10) : c, 4);
      if (pair) append_hex(result += "\\u", 0xDC00 + ((c - 0x10000) & 0x3FF), 4);
    }
    offset += length;
  }
  return result += '"';
}

std::string json_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return float_text(value);
}

std::string json_scalar(const Value& value, bool ascii_only) {
  if (value.is_none()) return "null";
  if (value.is_bool()) return value.truth() ? "true" : "false";
  if (value.is_float()) return json_float(value.floating());
  if (value.is_integer()) return std::to_string(value.integer());
  if (value.is_string()) return json_string(value.string(), ascii_only);
  throw TemplateError("tojson of " + value.kind());
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  void write(const Value& value, std::int64_t level) {
    if (value.is_dictionary()) {
      auto entries = value.dictionary().entries;
      if (style_.sort_keys) sort(entries);
      write_all('{', '}', level, entries, [&](const auto& entry) {
        const auto key = json_scalar(entry.first, style_.ascii_only);
        text_ += entry.first.is_string() ? key : '"' + key + '"';
        text_ += style_.key_separator;
        write(entry.second, level + 1);
      });
    } else if (value.is_sequence() && (value.sequence().kind == SequenceKind::kList ||
                                       value.sequence().kind == SequenceKind::kTuple)) {
      write_all('[', ']', level, value.sequence().items, [&](const Value& item) { write(item, level + 1); });
    } else {
      text_ += json_scalar(value, style_.ascii_only);
    }
  }

  std::string text() && { return std::move(text_); }

 private:
  static void sort(std::vector<std::pair<Value, Value>>& entries) {
    for (const auto& [key, value] : entries)
      if (!key.is_string()) throw TemplateError("tojson(sort_keys) of keys that are not strings");
    std::ranges::sort(entries, {},
                      [](const auto& entry) -> const std::string& { return entry.first.string(); });
  }

  template <class List, class Write>
  void write_all(char open, char close, std::int64_t level, const List& list, const Write& write_one) {
    text_ += open;
    bool first = true;
    for (const auto& one : list) {
      if (!first) text_ += style_.item_separator;
      if (style_.indent) new_line(level + 1);
      first = false;
      write_one(one);
    }
    if (style_.indent && !first) new_line(level);
    text_ += close;
  }

  void new_line(std::int64_t level) {
    text_ += '\n';
    text_.append(static_cast<std::size_t>(level * *style_.indent), ' ');
  }

  const JsonStyle& style_;
  std::string text_;
};

}  // namespace

bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

std::string_view stripped(std::string_view text, Sides sides, const std::optional<std::string>& characters) {
  const auto goes = [&](char32_t c) {
    if (!characters) return is_python_space(c);
    std::string one;
    append_utf8(one, c);
    return characters->find(one) != std::string::npos;
  };
  while (sides != Sides::kRight && !text.empty()) {
    const CodePoint first = code_point_at(text, 0);
    if (!goes(first.value)) break;
    text.remove_prefix(first.length);
  }
  while (sides != Sides::kLeft && !text.empty()) {
    const CodePoint last = code_point_before(text, text.size());
    if (!goes(last.value)) break;
    text.remove_suffix(last.length);
  }
  return text;
}

std::int64_t length_of(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

std::size_t offset_of(std::string_view text, std::int64_t index) {
  std::size_t offset = 0;
  for (; index > 0; --index) offset += code_point_at(text, offset).length;
  return offset;
}

std::size_t find_in(std::string_view text, std::string_view part, std::size_t from) {
  if (from > text.size()) return std::string_view::npos;
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found ? static_cast<std::size_t>(static_cast<const char*>(found) - text.data())
               : std::string_view::npos;
}

std::vector<std::string> split_at(std::string_view text, std::string_view separator, std::int64_t most,
                                  bool from_right) {
  std::vector<std::string> parts;
  const auto again = [&] { return most < 0 || static_cast<std::int64_t>(parts.size()) < most; };
  if (from_right) {
    std::size_t end = text.size();
    for (std::size_t at; again() && (at = find_right(text, separator, end)) != std::string_view::npos;
         end = at)
      parts.emplace_back(text.substr(at + separator.size(), end - at - separator.size()));
    parts.emplace_back(text.substr(0, end));
    std::ranges::reverse(parts);
    return parts;
  }
  std::size_t begin = 0;
  for (std::size_t at; again() && (at = find_in(text, separator, begin)) != std::string_view::npos;
       begin = at + separator.size())
    parts.emplace_back(text.substr(begin, at - begin));
  parts.emplace_back(text.substr(begin));
  return parts;
}

std::vector<std::string> split_at_space(std::string_view text, std::int64_t most, bool from_right) {
  std::vector<std::string> parts;
  const Sides front = from_right ? Sides::kRight : Sides::kLeft;
  for (text = stripped(text, front); !text.empty(); text = stripped(text, front)) {
    if (most >= 0 && static_cast<std::int64_t>(parts.size()) == most) {
      parts.emplace_back(text);
      break;
    }
    std::size_t length = 0;
    while (length < text.size()) {
      const CodePoint next =
          from_right ? code_point_before(text, text.size() - length) : code_point_at(text, length);
      if (is_python_space(next.value)) break;
      length += next.length;
    }
    parts.emplace_back(from_right ? text.substr(text.size() - length) : text.substr(0, length));
    from_right ? text.remove_suffix(length) : text.remove_prefix(length);
  }
  if (from_right) std::ranges::reverse(parts);
  return parts;
}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (std::size_t offset = 0; offset < text.size();) {
    const auto [c, length] = code_point_at(text, offset);
    const std::size_t end = offset;
    offset += length;
    if (!is_line_end(c)) continue;
    lines.emplace_back(text.substr(begin, end - begin));
    if (c == '\r' && offset < text.size() && text[offset] == '\n') ++offset;
    begin = offset;
  }
  if (begin < text.size()) lines.emplace_back(text.substr(begin));
  return lines;
}

std::string replaced_in(std::string_view text, std::string_view from, std::string_view to,
                        std::int64_t most) {
  std::string result;
  std::size_t done = 0;
  if (from.empty()) {  // before each character, and at the end
    for (; most != 0; most -= most > 0) {
      result += to;
      if (done == text.size()) break;
      const std::size_t length = code_point_at(text, done).length;
      result += text.substr(done, length);
      done += length;
    }
    return result += text.substr(done);
  }
  for (std::size_t at; most != 0 && (at = find_in(text, from, done)) != std::string_view::npos;
       most -= most > 0, done = at + from.size())
    (result += text.substr(done, at - done)) += to;
  return result += text.substr(done);
}

std::string lower(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t offset = 0; offset < text.size();) {
    const auto [c, length] = code_point_at(text, offset);
    if (c == 0x130 || c == 0x3A3)
      throw TemplateError("lower of the letters U+0130 and U+03A3 is not supported");
    append_utf8(result, c < 0x80 ? static_cast<char32_t>(ascii_lower(static_cast<char>(c)))
                                 : static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    offset += length;
  }
  return result;
}

std::string upper(std::string_view text) {
  require_ascii(text, "upper");
  std::string result(text);
  std::ranges::transform(result, result.begin(), ascii_upper);
  return result;
}

std::string capitalized(std::string_view text) {
  require_ascii(text, "capitalize");
  std::string result = lower(text);
  if (!result.empty()) result[0] = ascii_upper(result[0]);
  return result;
}

std::string titled(std::string_view text) {
  require_ascii(text, "title");
  std::string result(text);
  bool within_word = false;
  for (char& c : result) {
    c = within_word ? ascii_lower(c) : ascii_upper(c);
    within_word = is_ascii_letter(c);
  }
  return result;
}

std::string to_text(const Value& value) {
  if (value.is_string()) return value.string();
  if (value.is_undefined()) return "";
  if (value.is_none()) return "None";
  if (value.is_number()) return number_text(value);
  std::string text;
  if (value.is_dictionary()) {
    for (const auto& [key, item] : value.dictionary().entries)
      text += (text.empty() ? "" : ", ") + repr(key) + ": " + repr(item);
    return "{" + text + "}";
  }
  const bool is_list = value.is_sequence() && value.sequence().kind == SequenceKind::kList;
  const bool is_tuple = value.is_sequence() && value.sequence().kind == SequenceKind::kTuple;
  if (!is_list && !is_tuple) throw TemplateError(value.kind() + " cannot be written as text");
  for (const Value& item : value.sequence().items) text += (text.empty() ? "" : ", ") + repr(item);
  if (is_tuple && value.sequence().items.size() == 1) text += ",";
  return is_list ? "[" + text + "]" : "(" + text + ")";
}

std::string to_json(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.write(value, 0);
  return std::move(writer).text();
}

}  // namespace infalign::text::jinja
