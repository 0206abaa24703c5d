// GPT-2's byte alphabet: each of the 256 bytes as one printable character, so that a vocabulary of strings
// can hold any bytes. Printable Latin-1 stands for itself, the other 68 bytes are U+0100 and up: a space is
// "Ġ", a newline "Ċ".
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace infalign::text {

/// Appends `bytes` to `text` in the byte alphabet.
void append_byte_level(std::string& text, std::string_view bytes);

/// The bytes that `token` spells in the byte alphabet, or nullopt if a character is not of it.
std::optional<std::string> bytes_of_byte_level(std::string_view token);

}  // namespace infalign::text
