#include "core/text/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

#include "core/text/utf8.h"

namespace infalign::text {
namespace {

utf8proc_category_t category(char32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}

/// Nothing below U+0300 changes in NFC and nothing below U+0080 in any form: most text needs no work.
bool already_in(NormalForm form, std::string_view text) {
  const unsigned char limit = form == NormalForm::kNfc ? 0xCC : 0x80;  // 0xCC leads U+0300 ... U+033F
  return std::ranges::all_of(text, [&](char c) { return static_cast<unsigned char>(c) < limit; });
}

/// Code points decomposed one by one; marks not yet in canonical order.
std::vector<utf8proc_int32_t> decomposed(std::string_view text, utf8proc_option_t options) {
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  std::array<utf8proc_int32_t, 32> parts;  // the longest decomposition has 18
  for (std::size_t offset = 0; offset < text.size();) {
    const CodePoint point = code_point_at(text, offset);
    offset += point.length;
    int boundary_class = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(point.value), parts.data(),
                                               parts.size(), options, &boundary_class);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size()))
      throw std::logic_error("utf8proc: no decomposition of a valid code point");
    points.insert(points.end(), parts.begin(), parts.begin() + count);
  }
  return points;
}

int combining_class(utf8proc_int32_t point) { return utf8proc_get_property(point)->combining_class; }

/// Canonical order: each run of marks sorted by combining class. utf8proc's own ordering takes quadratic time
/// on a long run of marks; a stable sort does not.
void order_marks(std::vector<utf8proc_int32_t>& points) {
  const auto is_mark = [](utf8proc_int32_t point) { return combining_class(point) != 0; };
  for (auto begin = points.begin(); begin != points.end();) {
    begin = std::find_if(begin, points.end(), is_mark);
    const auto end = std::find_if_not(begin, points.end(), is_mark);
    std::stable_sort(begin, end, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
}

}  // namespace

std::string normalized(std::string_view text, NormalForm form) {
  if (already_in(form, text)) return std::string(text);
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const bool composed = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  const int kind = UTF8PROC_STABLE | (compatible ? UTF8PROC_COMPAT : 0);
  auto points = decomposed(text, static_cast<utf8proc_option_t>(kind | UTF8PROC_DECOMPOSE));
  order_marks(points);
  if (composed) {
    const auto count = utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                                                static_cast<utf8proc_option_t>(kind | UTF8PROC_COMPOSE));
    if (count < 0) throw std::logic_error("utf8proc: composition failed");
    points.resize(static_cast<std::size_t>(count));
  }
  std::string result;
  result.reserve(text.size());
  for (const auto point : points) append_utf8(result, static_cast<char32_t>(point));
  return result;
}

bool is_white_space(char32_t code_point) {
  if (code_point < 0x80) return code_point == ' ' || (code_point >= '\t' && code_point <= '\r');
  if (code_point == 0x85) return true;
  const auto c = category(code_point);
  return c == UTF8PROC_CATEGORY_ZS || c == UTF8PROC_CATEGORY_ZL || c == UTF8PROC_CATEGORY_ZP;
}

bool is_number(char32_t code_point) {
  if (code_point < 0x80) return code_point >= '0' && code_point <= '9';
  const auto c = category(code_point);
  return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t code_point) {
  const auto c = category(code_point);
  return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool is_mark(char32_t code_point) {
  const auto c = category(code_point);
  return c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_ME;
}

bool is_nonspacing_mark(char32_t code_point) { return category(code_point) == UTF8PROC_CATEGORY_MN; }

bool is_control(char32_t code_point) { return category(code_point) >= UTF8PROC_CATEGORY_CC; }

bool is_word(char32_t code_point) {
  switch (category(code_point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return code_point == 0x200C || code_point == 0x200D ||      // joiners
             (code_point >= 0x24B6 && code_point <= 0x24E9) ||    // circled letters: symbols, yet alphabetic
             (code_point >= 0x1F130 && code_point <= 0x1F149) ||  // squared,
             (code_point >= 0x1F150 && code_point <= 0x1F169) ||  // negative circled,
             (code_point >= 0x1F170 && code_point <= 0x1F189);    // negative squared letters
  }
}

std::string lowercased(std::string_view text) {
  constexpr char32_t kCapitalIWithDot = 0x130;  // the one whose lower case is two characters
  std::string result;
  result.reserve(text.size());
  for (std::size_t offset = 0; offset < text.size();) {
    const CodePoint point = code_point_at(text, offset);
    offset += point.length;
    if (point.value == kCapitalIWithDot) {
      result += "i\u0307";
    } else {
      append_utf8(result,
                  static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(point.value))));
    }
  }
  return result;
}

std::size_t grapheme_length(std::string_view text, std::size_t offset) {
  CodePoint point = code_point_at(text, offset);
  std::size_t end = offset + point.length;
  utf8proc_int32_t state = 0;
  while (end < text.size()) {
    const CodePoint next = code_point_at(text, end);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(point.value),
                                         static_cast<utf8proc_int32_t>(next.value), &state))
      break;
    point = next;
    end += point.length;
  }
  return end - offset;
}

}  // namespace infalign::text
