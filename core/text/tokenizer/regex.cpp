#include "core/text/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <stdexcept>

#include "core/error.h"

namespace infalign::text {
namespace {

struct Free {
  void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(error, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

struct Regex::Code {
  std::unique_ptr<pcre2_code, Free> code;
  bool compiled_to_machine_code = false;

  /// pcre2_match, by machine code where there is some. `text` is known to be valid UTF-8; checking it again
  /// at each match would make a long text quadratic.
  int match(std::string_view text, std::size_t from, std::uint32_t options, pcre2_match_data* data) const {
    options |= PCRE2_NO_UTF_CHECK;
    if (compiled_to_machine_code) {
      const int result = pcre2_match(code.get(), units(text), text.size(), from, options, data, nullptr);
      if (result != PCRE2_ERROR_JIT_STACKLIMIT) return result;
    }
    return pcre2_match(code.get(), units(text), text.size(), from, options | PCRE2_NO_JIT, data, nullptr);
  }
};

Regex::Regex(std::string_view pattern) : pattern_(pattern) {
  const std::string translated = oniguruma_to_pcre2(pattern);
  const std::unique_ptr<pcre2_compile_context, Free> context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  std::size_t offset = 0;
  auto code = std::make_shared<Code>();
  // In Ruby's dialect ^ and $ hold at every line. \C would match half a character.
  code->code.reset(pcre2_compile(units(translated), translated.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                                 &offset, context.get()));
  if (!code->code) throw std::invalid_argument("regular expression '" + pattern_ + "': " + message_of(error));
  code->compiled_to_machine_code = pcre2_jit_compile(code->code.get(), PCRE2_JIT_COMPLETE) == 0;
  code_ = std::move(code);
}

void Regex::find_all(std::string_view text, std::vector<Span>& matches) const {
  const std::unique_ptr<pcre2_match_data, Free> data(
      pcre2_match_data_create_from_pattern(code_->code.get(), nullptr));
  const std::size_t* bounds = pcre2_get_ovector_pointer(data.get());
  std::uint32_t options = 0;
  for (std::size_t from = 0; from <= text.size();) {
    const int result = code_->match(text, from, options, data.get());
    if (result == PCRE2_ERROR_NOMATCH) return;
    if (result < 0) throw InputError("regular expression '" + pattern_ + "': " + message_of(result));
    if (bounds[0] < from || bounds[1] < bounds[0])
      throw InputError("regular expression '" + pattern_ + "': \\K in a look-around is not supported");
    matches.push_back({bounds[0], bounds[1]});
    // After an empty match only a longer one may begin at the same place.
    options = bounds[0] == bounds[1] ? PCRE2_NOTEMPTY_ATSTART : 0;
    from = bounds[1];
  }
}

}  // namespace infalign::text
