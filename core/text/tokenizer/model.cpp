#include "core/text/tokenizer/model.h"

#include "core/json/json.h"
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

Model bpe_model(const Construct& construct) {
  const auto vocabulary = read_vocabulary(construct);
  const auto bpe = std::make_shared<const Bpe>(construct, vocabulary);
  return {vocabulary,
          [bpe](const Pieces& pieces, std::vector<std::int32_t>& ids) { bpe->encode(pieces, ids); }};
}

Model unigram_model(const Construct& construct) {
  const auto unigram = std::make_shared<const Unigram>(construct);
  return {unigram->vocabulary(),
          [unigram](const Pieces& pieces, std::vector<std::int32_t>& ids) { unigram->encode(pieces, ids); }};
}

Model word_piece_model(const Construct& construct) {
  const auto vocabulary = read_vocabulary(construct);
  const auto words = std::make_shared<const WordPiece>(construct, vocabulary);
  return {vocabulary,
          [words](const Pieces& pieces, std::vector<std::int32_t>& ids) { words->encode(pieces, ids); }};
}

const std::map<std::string_view, Model (*)(const Construct&)> kModels = {
    {"", bpe_model},  // the first files did not name their model: there was only one
    {"BPE", bpe_model},
    {"Unigram", unigram_model},
    {"WordPiece", word_piece_model},
};

}  // namespace

Model build_model(const Json& part, const std::string& file) {
  const Construct construct(part, file + ": model");
  return known(kModels, construct)(construct);
}

}  // namespace infalign::text
