#include "core/text/tokenizer/model.h"

#include <nlohmann/json.hpp>

#include "core/text/tokenizer/bpe.h"
#include "core/text/tokenizer/unigram.h"
#include "core/text/tokenizer/word_piece.h"

namespace infalign::text {
namespace {

std::shared_ptr<const Vocabulary> read_vocabulary(const Construct& construct) {
  auto vocabulary = std::make_shared<Vocabulary>();
  for (const auto& [token, id] : construct.object("vocab").items())
    if (!vocabulary->add(token, construct.token_id(id)))
      construct.refuse("'" + token + "' has the id of another token");
  return vocabulary;
}

Model build_bpe(const Construct& construct) {
  const auto vocabulary = read_vocabulary(construct);
  const auto bpe = std::make_shared<const Bpe>(construct, vocabulary);
  return {vocabulary,
          [bpe](const Pieces& pieces, std::vector<std::int32_t>& ids) { bpe->encode(pieces, ids); }};
}

Model build_unigram(const Construct& construct) {
  const auto unigram = std::make_shared<const Unigram>(construct);
  return {unigram->vocabulary(),
          [unigram](const Pieces& pieces, std::vector<std::int32_t>& ids) { unigram->encode(pieces, ids); }};
}

Model build_word_piece(const Construct& construct) {
  const auto vocabulary = read_vocabulary(construct);
  const auto words = std::make_shared<const WordPiece>(construct, vocabulary);
  return {vocabulary,
          [words](const Pieces& pieces, std::vector<std::int32_t>& ids) { words->encode(pieces, ids); }};
}

const std::map<std::string_view, Model (*)(const Construct&)> kModels = {
    {"", build_bpe},  // the first files did not name their model: there was only one
    {"BPE", build_bpe},
    {"Unigram", build_unigram},
    {"WordPiece", build_word_piece},
};

}  // namespace

Model build_model(const Json& part, const std::string& file) {
  const Construct construct(part, file + ": model");
  return known(kModels, construct)(construct);
}

}  // namespace infalign::text
