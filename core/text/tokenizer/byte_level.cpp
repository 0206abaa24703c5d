#include "core/text/tokenizer/byte_level.h"

#include <array>

#include "core/text/utf8.h"

namespace infalign::text {
namespace {

constexpr bool is_printable_byte(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

constexpr int kFirstSpare = 0x100;
constexpr int kSpares = 68;

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<int, kFirstSpare + kSpares> byte{};  // -1: not of the alphabet
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte.fill(-1);
  int spare = kFirstSpare;
  for (int byte = 0; byte < 256; ++byte) {
    const int character = is_printable_byte(byte) ? byte : spare++;
    alphabet.character[byte] = static_cast<char32_t>(character);
    alphabet.byte[character] = byte;
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

void append_byte_level(std::string& text, std::string_view bytes) {
  for (const char c : bytes) append_utf8(text, kAlphabet.character[static_cast<unsigned char>(c)]);
}

std::optional<std::string> bytes_of_byte_level(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  for (std::size_t offset = 0; offset < token.size();) {
    const CodePoint point = code_point_at(token, offset);
    if (point.value >= kAlphabet.byte.size() || kAlphabet.byte[point.value] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte[point.value]);
    offset += point.length;
  }
  return bytes;
}

}  // namespace infalign::text
