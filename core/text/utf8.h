// UTF-8 as bytes: is it well formed, what are its code points, and what to show where it is broken. Apart
// because the readers of records, the tokenizer's text side and its byte side all ask the same questions.
// Ill-formed parts are counted as Unicode recommends (one U+FFFD for each "maximal subpart"), which is what
// Hugging Face tokenizers prints.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace infalign::text {

/// The byte offset of the first invalid UTF-8 sequence, or std::string_view::npos.
std::size_t find_invalid_utf8(std::string_view text);

/// `bytes` with every ill-formed part replaced by U+FFFD.
std::string repaired_utf8(std::string_view bytes);

struct CodePoint {
  char32_t value;
  std::size_t length;  // in bytes
};

/// The code point that begins at text[offset]; `text` is valid UTF-8 and `offset` a border inside it.
CodePoint code_point_at(std::string_view text, std::size_t offset);

/// The code point that ends at text[end - 1]; `text` is valid UTF-8 and `end` a border, not 0.
CodePoint code_point_before(std::string_view text, std::size_t end);

void append_utf8(std::string& text, char32_t code_point);

/// `text` with every `from` written as `to`; `from` is not empty.
std::string replaced(std::string_view text, std::string_view from, std::string_view to);

}  // namespace infalign::text
