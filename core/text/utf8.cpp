#include "core/text/utf8.h"

#include <cstdint>
#include <cstring>

namespace infalign::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Sequence {
  std::size_t length;  // of the well-formed sequence, or of the maximal ill-formed part
  bool valid;
};

/// The sequence that begins at bytes[offset] (The Unicode Standard, table 3-7).
Sequence sequence_at(std::string_view bytes, std::size_t offset) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned lead = byte(offset);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned low =
      0x80;  // the second byte is held in tighter bounds: no overlong form, no surrogate, no 0x110000
  unsigned high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (std::size_t i = 1; i < length; ++i) {
    if (offset + i >= bytes.size() || byte(offset + i) < low || byte(offset + i) > high) return {i, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true};
}

/// How many bytes from `offset` on are ASCII, looked at eight at a time; may stop a little early.
std::size_t ascii_run(std::string_view bytes, std::size_t offset) {
  std::size_t end = offset;
  for (std::uint64_t eight = 0; end + sizeof eight <= bytes.size(); end += sizeof eight) {
    std::memcpy(&eight, bytes.data() + end, sizeof eight);
    if (eight & 0x8080808080808080u) break;
  }
  return end - offset;
}

}  // namespace

std::size_t find_invalid_utf8(std::string_view text) {
  std::size_t offset = 0;
  while (offset < text.size()) {
    offset += ascii_run(text, offset);
    if (offset == text.size()) break;
    const Sequence sequence = sequence_at(text, offset);
    if (!sequence.valid) return offset;
    offset += sequence.length;
  }
  return std::string_view::npos;
}

std::string repaired_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (std::size_t offset = 0; offset < bytes.size();) {
    const Sequence sequence = sequence_at(bytes, offset);
    text += sequence.valid ? bytes.substr(offset, sequence.length) : kReplacement;
    offset += sequence.length;
  }
  return text;
}

CodePoint code_point_at(std::string_view text, std::size_t offset) {
  const auto bits = [&](std::size_t i, unsigned mask) -> char32_t {
    return static_cast<unsigned char>(text[offset + i]) & mask;
  };
  const char32_t lead = bits(0, 0xFF);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {bits(0, 0x1F) << 6 | bits(1, 0x3F), 2};
  if (lead < 0xF0) return {bits(0, 0x0F) << 12 | bits(1, 0x3F) << 6 | bits(2, 0x3F), 3};
  return {bits(0, 0x07) << 18 | bits(1, 0x3F) << 12 | bits(2, 0x3F) << 6 | bits(3, 0x3F), 4};
}

CodePoint code_point_before(std::string_view text, std::size_t end) {
  std::size_t begin = end - 1;
  while ((static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return code_point_at(text, begin);
}

void append_utf8(std::string& text, char32_t code_point) {
  const auto put = [&](char32_t byte) { text += static_cast<char>(byte); };
  const auto put_low = [&](unsigned shift) { put(0x80 | (code_point >> shift & 0x3F)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put_low(0);
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put_low(6);
    put_low(0);
  } else {
    put(0xF0 | code_point >> 18);
    put_low(12);
    put_low(6);
    put_low(0);
  }
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  result.reserve(text.size());
  std::size_t done = 0;
  for (std::size_t found; (found = text.find(from, done)) != std::string_view::npos;
       done = found + from.size()) {
    result += text.substr(done, found - done);
    result += to;
  }
  return result += text.substr(done);
}

}  // namespace infalign::text
