// The vocabularies of GPT-2, StarCoder and Llama 2 against ids that other programs gave: real sizes, real
// merge lists. They come without a tokenizer.json, so the tests write the one that goes with them.
#include <gmock/gmock.h>

#include <algorithm>
#include <sstream>

#include "core/text/gguf_vocabulary.h"
#include "core/text/test_data.h"
#include "core/text/tokenizer.h"

namespace infalign::text {
namespace {

using Ids = std::vector<std::int32_t>;
using Json = nlohmann::json;

Json with_byte_level(Json vocabulary, Json merges, Json pre_tokenizer) {
  return {{"pre_tokenizer", std::move(pre_tokenizer)},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", std::move(vocabulary)}, {"merges", std::move(merges)}}}};
}

const Json kByteLevelFile = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
const Json kDigitsAndByteLevel = {
    {"type", "Sequence"},
    {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, kByteLevelFile}}};

Json numbered(const std::vector<std::string>& tokens) {
  Json vocabulary = Json::object();
  for (std::size_t id = 0; id < tokens.size(); ++id) vocabulary[tokens[id]] = id;
  return vocabulary;
}

/// The merge list of a SentencePiece model: every way to cut a piece into two, in order of the piece's score.
Json merges_of_scores(const GgufVocabulary& gguf) {
  struct Cut {
    float score;
    std::size_t left, right;
  };
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t id = 0; id < gguf.tokens.size(); ++id) ids[gguf.tokens[id]] = id;
  std::vector<Cut> cuts;
  for (std::size_t id = 0; id < gguf.tokens.size(); ++id) {
    if (gguf.types[id] != 1) continue;
    const std::string_view piece = gguf.tokens[id];
    for (std::size_t border = 1; border < piece.size(); ++border) {
      const auto left = ids.find(piece.substr(0, border));
      const auto right = ids.find(piece.substr(border));
      if (left != ids.end() && right != ids.end())
        cuts.push_back({gguf.scores[id], left->second, right->second});
    }
  }
  std::ranges::stable_sort(cuts, std::greater<>(), &Cut::score);
  Json merges = Json::array();
  for (const Cut& cut : cuts) merges.push_back({gguf.tokens[cut.left], gguf.tokens[cut.right]});
  return merges;
}

Json with_sentence_piece(const GgufVocabulary& gguf) {
  return {{"normalizer",
           {{"type", "Sequence"},
            {"normalizers",
             {{{"type", "Prepend"}, {"prepend", "▁"}},
              {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}}}}}},
          {"decoder", {{"type", "Fuse"}}},
          {"model",
           {{"type", "BPE"},
            {"unk_token", "<unk>"},
            {"byte_fallback", true},
            {"vocab", numbered(gguf.tokens)},
            {"merges", merges_of_scores(gguf)}}}};
}

/// The test strings of `name`.inp have the ids of `name`.out, a line each.
void expect_vectors(const Tokenizer& tokenizer, const std::filesystem::path& vocabulary) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  const std::string inputs = file_content(vocabulary.string() + ".inp");
  std::istringstream expected(file_content(vocabulary.string() + ".out"));
  std::size_t count = 0;
  for (std::size_t begin = 0, end; begin < inputs.size(); begin = end + separator.size(), ++count) {
    end = std::min(inputs.find(separator, begin), inputs.size());
    std::string line;
    std::getline(expected, line);
    std::istringstream numbers(line);
    const Ids ids{std::istream_iterator<std::int32_t>(numbers), {}};
    const std::string text = inputs.substr(begin, end - begin);
    EXPECT_EQ(tokenizer.encode(text), ids) << testing::PrintToString(text);
  }
  EXPECT_GE(count, 46);
}

GgufVocabulary read_gguf(const std::filesystem::path& path) {
  const std::string bytes = file_content(path);
  return GgufReader(bytes).read();
}

TEST(PublishedVocabularies, Gpt2) {
  const auto path = data_folder() / "tokenizer-vectors/ggml-vocab-gpt-2.gguf";
  SKIP_WITHOUT(path);
  const auto gguf = read_gguf(path);
  expect_vectors(
      Tokenizer::parse(with_byte_level(numbered(gguf.tokens), gguf.merges, kByteLevelFile).dump(), "gpt-2"),
      path);
}

TEST(PublishedVocabularies, StarCoder) {
  const auto path = data_folder() / "tokenizer-vectors/ggml-vocab-starcoder.gguf";
  SKIP_WITHOUT(path);
  const auto gguf = read_gguf(path);
  const Json json = with_byte_level(numbered(gguf.tokens), gguf.merges, kDigitsAndByteLevel);
  expect_vectors(Tokenizer::parse(json.dump(), "starcoder"), path);
}

TEST(PublishedVocabularies, Llama2) {
  const auto path = data_folder() / "tokenizer-vectors/ggml-vocab-llama-spm.gguf";
  const auto passage = data_folder() / "gpt2-tokenizer/llama_encoded.json";
  SKIP_WITHOUT(path);
  SKIP_WITHOUT(passage);
  const auto tokenizer = Tokenizer::parse(with_sentence_piece(read_gguf(path)).dump(), "llama-2");
  expect_vectors(tokenizer, path);
  const Json encoded = json_content(passage);
  Ids ids = tokenizer.encode(encoded["text"].get<std::string>());
  ids.insert(ids.begin(), 1);  // BOS
  EXPECT_EQ(ids, encoded["token_ids"].get<Ids>());
}

TEST(PublishedVocabularies, Gpt2AsFirstPublished) {
  const auto folder = data_folder() / "gpt2-tokenizer";
  SKIP_WITHOUT(folder);
  Json merges = Json::array();
  std::istringstream lines(file_content(folder / "vocab.bpe"));
  for (std::string line; std::getline(lines, line);)
    if (!line.empty())
      merges.push_back(line);  // the first is "#version: 0.2", as in published tokenizer.json files
  const Json json = with_byte_level(json_content(folder / "encoder.json"), merges, kByteLevelFile);
  const auto tokenizer = Tokenizer::parse(json.dump(), "gpt-2");
  const Json encoded = json_content(folder / "gpt2_encoded_tokens.json");
  const auto text = encoded["text"].get<std::string>();
  const auto ids = encoded["token_ids"].get<Ids>();
  EXPECT_EQ(tokenizer.encode(text), ids);
  EXPECT_EQ(tokenizer.decode(ids), text);
}

}  // namespace
}  // namespace infalign::text
