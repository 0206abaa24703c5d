// The questions that need the Unicode character database: normal forms and a few character classes. Apart so
// that utf8proc is known to one file. Hugging Face's tokenizers answers some of them (punctuation, marks,
// control) from tables of Unicode 8: BERT's pieces of a few hundred characters of rare scripts, assigned
// since or in another class now, differ.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace infalign::text {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// Valid UTF-8 in the given normal form, in time linear in its length but for the sorting of combining marks.
std::string normalized(std::string_view text, NormalForm form);

bool is_white_space(char32_t code_point);      // the property White_Space
bool is_number(char32_t code_point);           // general categories Nd, Nl, No
bool is_punctuation(char32_t code_point);      // general categories P*
bool is_mark(char32_t code_point);             // general categories M*
bool is_nonspacing_mark(char32_t code_point);  // Mn
bool is_control(char32_t code_point);          // Cc, Cf, Cs, Co: C* but for what is not assigned
bool is_word(char32_t code_point);  // what \w matches: letters, marks, decimal digits, connectors, joiners

/// Every character in its lower case, each by itself.
std::string lowercased(std::string_view text);

/// The bytes of the grapheme cluster that begins at text[offset], in time linear in them.
std::size_t grapheme_length(std::string_view text, std::size_t offset);

}  // namespace infalign::text
