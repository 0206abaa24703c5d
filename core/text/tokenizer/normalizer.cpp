#include "core/text/tokenizer/normalizer.h"

#include "core/text/tokenizer/pattern.h"
#include "core/text/tokenizer/unicode.h"

namespace infalign::text {
namespace {

template <NormalForm form>
Normalizer build_normal_form(const Construct& construct) {
  construct.allow_only({});
  return [](std::string& text, Place) { text = normalized(text, form); };
}

/// SentencePiece's dummy space, as the older Llama files spell it: before every stretch, unless it goes on
/// with another.
Normalizer build_prepend(const Construct& construct) {
  construct.allow_only({"prepend"});
  return [prefix = construct.text("prepend")](std::string& text, Place place) {
    if (!text.empty() && place != Place::kContinuation) text.insert(0, prefix);
  };
}

Normalizer build_replace(const Construct& construct) {
  return [replace = build_replacement(construct)](std::string& text, Place) { text = replace(text); };
}

const std::map<std::string_view, Normalizer (*)(const Construct&)> kNormalizers = {
    {"NFC", build_normal_form<NormalForm::kNfc>},
    {"NFD", build_normal_form<NormalForm::kNfd>},
    {"NFKC", build_normal_form<NormalForm::kNfkc>},
    {"NFKD", build_normal_form<NormalForm::kNfkd>},
    {"Prepend", build_prepend},
    {"Replace", build_replace},
};

}  // namespace

std::vector<Normalizer> build_normalizers(const Json& part, const std::string& file) {
  std::vector<Normalizer> normalizers;
  for (const Construct& construct : flattened(part, file + ": normalizer", "normalizers"))
    normalizers.push_back(known(kNormalizers, construct)(construct));
  return normalizers;
}

}  // namespace infalign::text
