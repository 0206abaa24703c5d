// Regular expressions as tokenizer.json writes them: Oniguruma's (Ruby's) dialect, Unicode classes, run by
// PCRE2. PCRE2 is known to regex.cpp alone.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace infalign::text {

/// text[begin, end).
struct Span {
  std::size_t begin;
  std::size_t end;
};

class Regex {
 public:
  /// Errors: std::invalid_argument for a pattern that is malformed, or that PCRE2 would read differently.
  explicit Regex(std::string_view pattern);

  /// Appends the matches in valid UTF-8, from left to right, not overlapping.
  /// Errors: InputError if the pattern exceeds PCRE2's limits on this text.
  void find_all(std::string_view text, std::vector<Span>& matches) const;

 private:
  struct Code;
  std::string pattern_;
  std::shared_ptr<const Code> code_;
};

/// An Oniguruma pattern in PCRE2's dialect: nested character classes are flattened; \s, \w and \h get
/// Oniguruma's meaning. Errors: std::invalid_argument for what cannot be written in PCRE2.
std::string oniguruma_to_pcre2(std::string_view pattern);

}  // namespace infalign::text
