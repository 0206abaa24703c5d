// What Python does to text and how it writes values, as far as chat templates see it. Strings are valid
// UTF-8; positions and lengths count code points, as Python's do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/jinja/value.h"

namespace infalign::text::jinja {

/// str.isspace of one character: also what `strip` and the regular expression \s take for white space.
bool is_python_space(char32_t character);

enum class Sides { kLeft, kRight, kBoth };

/// str.strip, lstrip, rstrip; `characters` empty: white space. What is given back is a part of `text`.
std::string_view stripped(std::string_view text, Sides sides,
                          const std::optional<std::string>& characters = std::nullopt);

/// The number of code points.
std::int64_t length_of(std::string_view text);

/// The byte offset of code point `index`; index is from 0 to length_of(text).
std::size_t offset_of(std::string_view text, std::int64_t index);

/// str.find in bytes, from byte `from`, in linear time.
std::size_t find_in(std::string_view text, std::string_view part, std::size_t from = 0);

/// str.split, rsplit with a separator (not empty), at most `most` times (negative: as often as there are).
std::vector<std::string> split_at(std::string_view text, std::string_view separator, std::int64_t most,
                                  bool from_right);
/// The same at white space.
std::vector<std::string> split_at_space(std::string_view text, std::int64_t most, bool from_right);
/// str.splitlines.
std::vector<std::string> split_lines(std::string_view text);

/// str.replace, at most `most` times (negative: all).
std::string replaced_in(std::string_view text, std::string_view from, std::string_view to, std::int64_t most);

/// str.lower and the like. Errors: TemplateError where letters beyond ASCII would need more than one-to-one
/// mapping (for upper, title and capitalize: any letter beyond ASCII).
std::string lower(std::string_view text);
std::string upper(std::string_view text);
std::string capitalized(std::string_view text);
std::string titled(std::string_view text);  // str.title

/// str(value). Errors: TemplateError for what has no text of its own (a generator, a macro).
std::string to_text(const Value& value);

struct JsonStyle {
  std::optional<std::int64_t> indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
  bool ascii_only = false;
};

/// json.dumps as transformers sets it. Errors: TemplateError for what JSON has no form of.
std::string to_json(const Value& value, const JsonStyle& style);

}  // namespace infalign::text::jinja
