#include "core/text/tokenizer/normalizer.h"

#include <memory>
#include <stdexcept>
#include <utility>

#include "core/text/tokenizer/pattern.h"
#include "core/text/tokenizer/precompiled.h"
#include "core/text/tokenizer/unicode.h"
#include "core/text/utf8.h"

namespace infalign::text {
namespace {

void beginning_is_gone(Place& place) {
  if (place == Place::kBeginning) place = Place::kInside;
}

template <NormalForm form>
Normalizer normal_form_normalizer(const Construct& construct) {
  construct.allow_only({});
  return [](std::string& text, Place&) { text = normalized(text, form); };
}

/// SentencePiece's dummy space, as the older Llama files spell it: before every stretch, unless it goes on
/// with another.
Normalizer prepend_normalizer(const Construct& construct) {
  construct.allow_only({"prepend"});
  return [prefix = construct.text("prepend")](std::string& text, Place& place) {
    if (!text.empty() && place != Place::kContinuation) text.insert(0, prefix);
  };
}

Normalizer replace_normalizer(const Construct& construct) {
  return [replace = build_replacement(construct)](std::string& text, Place&) { text = replace(text); };
}

Normalizer lowercase_normalizer(const Construct& construct) {
  construct.allow_only({});
  return [](std::string& text, Place&) { text = lowercased(text); };
}

/// Writes text anew, character by character: `write(code point, bytes, text)` appends what stands for it.
template <class Write>
void rewrite_text(std::string& text, Place& place, const Write& write) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t offset = 0; offset < text.size();) {
    const CodePoint point = code_point_at(text, offset);
    write(point.value, std::string_view(text).substr(offset, point.length), result);
    if (offset == 0 && result.empty()) beginning_is_gone(place);
    offset += point.length;
  }
  text = std::move(result);
}

Normalizer strip_accents_normalizer(const Construct& construct) {
  construct.allow_only({});
  return [](std::string& text, Place& place) {
    rewrite_text(text, place, [](char32_t point, std::string_view bytes, std::string& result) {
      if (!is_mark(point)) result += bytes;
    });
  };
}

/// White space off the ends of a stretch; not where it goes on with another.
Normalizer strip_normalizer(const Construct& construct) {
  construct.allow_only({"strip_left", "strip_right"});
  const bool left = construct.flag("strip_left", true), right = construct.flag("strip_right", true);
  return [=](std::string& text, Place& place) {
    std::size_t begin = 0, end = text.size();
    while (left && place != Place::kContinuation && begin < end) {
      const CodePoint point = code_point_at(text, begin);
      if (!is_white_space(point.value)) break;
      begin += point.length;
    }
    while (right && end > begin) {
      const CodePoint point = code_point_before(text, end);
      if (!is_white_space(point.value)) break;
      end -= point.length;
    }
    if (begin > 0) beginning_is_gone(place);
    text = text.substr(begin, end - begin);
  };
}

Normalizer precompiled_normalizer(const Construct& construct) {
  construct.allow_only({"precompiled_charsmap"});
  const auto charsmap = construct.optional_text("precompiled_charsmap");
  if (!charsmap) return [](std::string&, Place&) {};
  try {
    return [table = std::make_shared<const Precompiled>(*charsmap)](std::string& text, Place&) {
      text = table->normalize(text);
    };
  } catch (const std::invalid_argument& error) {
    construct.refuse(error.what());
  }
}

/// The ideographs that BERT takes each for a word.
bool is_ideograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0x2F800 && c <= 0x2FA1F);
}

Normalizer bert_normalizer(const Construct& construct) {
  construct.allow_only({"clean_text", "handle_chinese_chars", "strip_accents", "lowercase"});
  const bool cleans = construct.flag("clean_text", true),
             spaces = construct.flag("handle_chinese_chars", true);
  const bool lowers = construct.flag("lowercase", true), strips = construct.flag("strip_accents", lowers);
  const auto clean = [](char32_t point, std::string_view bytes, std::string& result) {
    const bool is_line_space = point == '\t' || point == '\n' || point == '\r';
    if (!is_line_space && (point == 0xFFFD || is_control(point))) return;
    is_white_space(point) ? result += ' ' : result += bytes;
  };
  const auto set_apart = [](char32_t point, std::string_view bytes, std::string& result) {
    const char* space = is_ideograph(point) ? " " : "";
    ((result += space) += bytes) += space;
  };
  const auto strip = [](char32_t point, std::string_view bytes, std::string& result) {
    if (!is_nonspacing_mark(point)) result += bytes;
  };
  return [=](std::string& text, Place& place) {
    if (cleans) rewrite_text(text, place, clean);
    if (spaces) rewrite_text(text, place, set_apart);
    if (strips) rewrite_text(text = normalized(text, NormalForm::kNfd), place, strip);
    if (lowers) text = lowercased(text);
  };
}

const std::map<std::string_view, Normalizer (*)(const Construct&)> kNormalizers = {
    {"BertNormalizer", bert_normalizer},
    {"Lowercase", lowercase_normalizer},
    {"NFC", normal_form_normalizer<NormalForm::kNfc>},
    {"NFD", normal_form_normalizer<NormalForm::kNfd>},
    {"NFKC", normal_form_normalizer<NormalForm::kNfkc>},
    {"NFKD", normal_form_normalizer<NormalForm::kNfkd>},
    {"Precompiled", precompiled_normalizer},
    {"Prepend", prepend_normalizer},
    {"Replace", replace_normalizer},
    {"Strip", strip_normalizer},
    {"StripAccents", strip_accents_normalizer},
};

}  // namespace

std::vector<Normalizer> build_normalizers(const Json& part, const std::string& file) {
  std::vector<Normalizer> normalizers;
  for (const Construct& construct : flattened(part, file + ": normalizer", "normalizers"))
    normalizers.push_back(known(kNormalizers, construct)(construct));
  return normalizers;
}

}  // namespace infalign::text
