// The questions that need the Unicode character database: normal forms and a few character classes. Apart so
// that utf8proc is known to one file.
#pragma once

#include <string>
#include <string_view>

namespace infalign::text {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// Valid UTF-8 in the given normal form, in time linear in its length but for the sorting of combining marks.
std::string normalized(std::string_view text, NormalForm form);

bool is_white_space(char32_t code_point);  // the property White_Space
bool is_number(char32_t code_point);       // general categories Nd, Nl, No
bool is_word(char32_t code_point);  // what \w matches: letters, marks, decimal digits, connectors, joiners

}  // namespace infalign::text
