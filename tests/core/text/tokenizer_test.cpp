// The tokenizer as its callers meet it: borders of continuations, special tokens, errors.
#include "core/text/tokenizer.h"

#include <gmock/gmock.h>

#include "core/error.h"
#include "core/text/test_data.h"

namespace infalign::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;
using Ids = std::vector<std::int32_t>;
using Json = nlohmann::json;

/// A SentencePiece-like tokenizer of a few words; the model's pieces in order of id, from 3 on.
constexpr std::string_view kSmall = R"({
  "added_tokens": [{"id": 0, "content": "<unk>", "special": true}, {"id": 1, "content": "<s>", "special": true},
                   {"id": 2, "content": "</s>", "special": true}],
  "normalizer": {"type": "Sequence", "normalizers": [
    {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
  "pre_tokenizer": null,
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
  "decoder": {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
  "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true,
    "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "H": 4, "e": 5, "l": 6, "y": 7, "He": 8, "▁He": 9, "ly": 10},
    "merges": ["H e", "▁ He", "l y"]}})";

Tokenizer small() { return Tokenizer::parse(kSmall, "small.json"); }

nlohmann::json small_json() { return nlohmann::json::parse(kSmall); }

/// Expects that parsing fails and that the message names the file and `what`.
void expect_refused_tokenizer(const nlohmann::json& json, const std::string& what) {
  EXPECT_THAT([&] { Tokenizer::parse(json.dump(), "small.json"); },
              ThrowsMessage<InputError>(testing::AllOf(HasSubstr("small.json"), HasSubstr(what))));
}

TEST(Tokenizer, PutsSpecialTokensAndTheDummySpaceBeforeAText) {
  EXPECT_THAT(small().encode("He"), ElementsAre(1, 9));
  EXPECT_THAT(small().encode("He", false), ElementsAre(9));
  EXPECT_THAT(small().encode(""), ElementsAre(1));
}

TEST(Tokenizer, ContinuesWithoutADummySpace) {
  EXPECT_THAT(small().encode_continuation(" He"), ElementsAre(9));
  EXPECT_THAT(small().encode_continuation("He"), ElementsAre(8));
  EXPECT_THAT(small().encode_continuation("ly"), ElementsAre(10));
  EXPECT_THAT(small().encode_continuation(""), IsEmpty());
}

TEST(Tokenizer, KeepsTheLeadingSpaceOfAContinuation) {
  EXPECT_EQ(small().decode({9, 10}), "Hely");
  EXPECT_EQ(small().decode_continuation({9, 10}), " Hely");
  EXPECT_EQ(small().decode_continuation({10}), "ly");
}

TEST(Tokenizer, MetaspaceContinuesWithoutADummySpaceToo) {
  auto json = small_json();
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}, {"split", true}};
  json["decoder"] = {
      {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}, {"split", true}};
  const auto tokenizer = Tokenizer::parse(json.dump(), "metaspace");
  EXPECT_THAT(tokenizer.encode("He He", false), ElementsAre(9, 9));
  EXPECT_THAT(tokenizer.encode_continuation(" He He"), ElementsAre(9, 9));
  EXPECT_THAT(tokenizer.encode_continuation("He He"), ElementsAre(8, 9));
  EXPECT_EQ(tokenizer.decode({9, 9}), "He He");
  EXPECT_EQ(tokenizer.decode_continuation({9, 9}), " He He");
}

TEST(Tokenizer, FusesUnknownCharacters) {
  EXPECT_THAT(small().encode("日本ly", false), ElementsAre(3, 0, 10));
}

TEST(Tokenizer, SkipsSpecialTokensOnRequest) {
  EXPECT_EQ(small().decode({1, 9, 2}, true), "He");
  EXPECT_EQ(small().decode({1, 9, 2}, false), "<s> He</s>");
}

TEST(Tokenizer, KnowsIdsByName) {
  EXPECT_EQ(small().id_of("</s>"), 2);
  EXPECT_EQ(small().id_of("▁He"), 9);
  EXPECT_EQ(small().id_of("absent"), std::nullopt);
}

TEST(Tokenizer, RefusesWhatItCannotEncodeOrDecode) {
  EXPECT_THAT([] { small().encode("He\xFF"); }, ThrowsMessage<std::invalid_argument>(HasSubstr("byte 2")));
  EXPECT_THROW(small().decode({11}), std::out_of_range);
  EXPECT_THROW(small().decode({-1}), std::out_of_range);
}

TEST(Tokenizer, NamesFileAndConstructThatIsNotSupported) {
  auto json = small_json();
  json["normalizer"]["normalizers"][0]["type"] = "Nmt";
  expect_refused_tokenizer(json, "normalizer (Nmt)");
  json = small_json();
  json["pre_tokenizer"] = {{"type", "UnicodeScripts"}};
  expect_refused_tokenizer(json, "pre_tokenizer (UnicodeScripts)");
  json = small_json();
  json["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}};
  expect_refused_tokenizer(json, "(a");
  json = small_json();
  json["model"]["type"] = "WordLevel";
  expect_refused_tokenizer(json, "model (WordLevel)");
  json = small_json();
  json["model"]["dropout"] = 0.1;
  expect_refused_tokenizer(json, "dropout");
  json = small_json();
  json["model"]["end_of_word_suffix"] = "</w>";
  expect_refused_tokenizer(json, "end_of_word_suffix");
  json = small_json();
  json["decoder"]["decoders"][3]["from_the_future"] = 1;
  expect_refused_tokenizer(json, "from_the_future");
  json = small_json();
  json["post_processor"]["type"] = "Unheard";
  expect_refused_tokenizer(json, "post_processor (Unheard)");
}

/// What Hugging Face's tokenizers makes of hard strings by small Unigram and WordPiece files
/// (make_tokenizer_cases.py).
TEST(Tokenizer, UnigramAndWordPieceDoWhatTheLibraryDoes) {
  const auto cases =
      json_content(std::filesystem::path(INFALIGN_SOURCE_DIR) / "tests/core/text/tokenizer_cases.json");
  ASSERT_EQ(cases.size(), 4u);
  for (const auto& one : cases) {
    SCOPED_TRACE(one["name"]);
    const auto tokenizer = Tokenizer::parse(one["tokenizer"].dump(), "case");
    for (const auto& vector : one["encode"]) {
      SCOPED_TRACE(vector["text"]);
      const auto text = vector["text"].get<std::string>();
      const auto ids = vector["ids"].get<std::vector<std::int32_t>>();
      EXPECT_EQ(tokenizer.encode(text), ids);
      EXPECT_EQ(tokenizer.encode(text, false),
                vector["ids_without_special"].get<std::vector<std::int32_t>>());
      EXPECT_EQ(tokenizer.decode(ids, false), vector["decoded"]);
      EXPECT_EQ(tokenizer.decode(ids), vector["decoded_skipping_special"]);
    }
  }
}

Json unigram_json() {
  return Json::parse(R"({"model": {"type": "Unigram", "unk_id": 0, "vocab": [
    ["<unk>", 0], ["a", -1], ["b", -1.5], ["ab", -2.25], ["aba", -4], ["c", -3]]}})");
}

Json word_piece_json() {
  return Json::parse(R"({"model": {"type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": "##",
    "max_input_chars_per_word": 9,
    "vocab": {"?": 0, "ab": 1, "abc": 2, "##c": 3, "##cd": 4, "a": 5, "##b": 6}}})");
}

TEST(Tokenizer, UnigramFindsTheBestSumOfScores) {
  const auto tokenizer = Tokenizer::parse(unigram_json().dump(), "test");
  // a|ba: no such token; ab|a: -3.25; a|b|a: -3.5; aba: -4.
  EXPECT_EQ(tokenizer.encode("aba"), (Ids{3, 1}));
  EXPECT_EQ(tokenizer.encode("axyb"), (Ids{1, 0, 2})) << "unknown characters in a row are one token";
}

TEST(Tokenizer, WordPieceTakesTheLongestFromTheLeft) {
  const auto tokenizer = Tokenizer::parse(word_piece_json().dump(), "test");
  EXPECT_EQ(tokenizer.encode("abc"), (Ids{2}));
  EXPECT_EQ(tokenizer.encode("abb"), (Ids{1, 6}));
  EXPECT_EQ(tokenizer.encode("abcd"), (Ids{0})) << "abc is taken, and nothing goes on with d: no way back";
  EXPECT_EQ(tokenizer.encode("abccccccc"), (Ids{2, 3, 3, 3, 3, 3, 3}));
  EXPECT_EQ(tokenizer.encode("abcccccccc"), (Ids{0})) << "longer than nine characters";
}

TEST(Tokenizer, UnigramAndWordPieceNameWhatIsWrong) {
  auto json = unigram_json();
  json["model"]["vocab"].push_back(Json::array({"a", -1}));
  expect_refused_tokenizer(json, "model (Unigram): 'a' stands in the vocabulary twice");
  json = unigram_json();
  json["model"]["vocab"].push_back("a");
  expect_refused_tokenizer(json, "must be a token and its score");
  json = unigram_json();
  json["model"]["unk_id"] = 6;
  expect_refused_tokenizer(json, "'unk_id' 6 is not in the vocabulary");
  json = word_piece_json();
  json["model"]["unk_token"] = "none";
  expect_refused_tokenizer(json, "model (WordPiece): 'unk_token' none is not in the vocabulary");
  json = unigram_json();
  json["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA"}};
  expect_refused_tokenizer(json, "normalizer (Precompiled): 'precompiled_charsmap' is damaged");
  json["model"]["unk_id"] = nullptr;
  json.erase("normalizer");
  EXPECT_THAT([&] { Tokenizer::parse(json.dump(), "test").encode("axyb"); },
              ThrowsMessage<InputError>(HasSubstr("'xy' has no tokens")));
}

/// In quadratic time a million characters would take hours.
TEST(Tokenizer, LongPiecesTakeLinearTime) {
  const std::string text(1'000'000, 'a');
  EXPECT_EQ(Tokenizer::parse(unigram_json().dump(), "test").encode(text).size(), text.size());
  auto json = word_piece_json();
  json["model"]["max_input_chars_per_word"] = 1 << 30;
  json["model"]["vocab"]["##a"] = 7;
  EXPECT_EQ(Tokenizer::parse(json.dump(), "test").encode(text).size(), text.size());
  json = unigram_json();
  json["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  json["normalizer"] = {{"type", "BertNormalizer"}};
  EXPECT_EQ(Tokenizer::parse(json.dump(), "test").encode(text + "!" + text).size(), 2 * text.size() + 1);
}

TEST(Tokenizer, NamesWhatIsInconsistent) {
  auto json = small_json();
  json["model"]["merges"].push_back("l H");
  expect_refused_tokenizer(json, "merge 'l H'");
  json = small_json();
  json["model"]["vocab"]["x"] = 3;
  expect_refused_tokenizer(json, "has the id of another token");
  json = small_json();
  json["model"]["vocab"]["x"] = 1LL << 31;
  expect_refused_tokenizer(json, "31 bits");
  json = small_json();
  json["added_tokens"][1]["id"] = 5;
  expect_refused_tokenizer(json, "'<s>' contradicts the model's vocabulary");
  json = small_json();
  json["model"]["unk_token"] = "<none>";
  expect_refused_tokenizer(json, "<none>");
  json = small_json();
  json["post_processor"]["special_tokens"]["<s>"]["ids"][0] = 77;
  expect_refused_tokenizer(json, "token id 77");
  json = small_json();
  json.erase("model");
  expect_refused_tokenizer(json, "model");
}

TEST(Tokenizer, NamesTheFileThatIsNotThere) {
  const TemporaryFolder folder;
  EXPECT_THAT([&] { Tokenizer::load(folder.path()); },
              ThrowsMessage<InputError>(HasSubstr("tokenizer.json")));
}

TEST(Tokenizer, HugeIdsCostNothing) {
  auto json = small_json();
  json["added_tokens"].push_back({{"id", 2147483647}, {"content", "<far>"}, {"special", true}});
  const auto tokenizer = Tokenizer::parse(json.dump(), "far");
  EXPECT_EQ(tokenizer.vocabulary_size(), 2147483648);
  EXPECT_THAT(tokenizer.encode("<far>", false), ElementsAre(2147483647));
  EXPECT_EQ(tokenizer.decode({8, 1000, 2147483647}, false), "He<far>");
}

TEST(Tokenizer, NestedSequencesCostNoStack) {
  std::string nested;
  for (int i = 0; i < 100000; ++i) nested += R"({"type": "Sequence", "normalizers": [)";
  nested += R"({"type": "NFC"})";
  for (int i = 0; i < 100000; ++i) nested += "]}";
  std::string json(kSmall);
  const auto begin = json.find(R"("normalizer": )") + 14;
  json.replace(begin, json.find(R"("pre_tokenizer")") - begin, nested + ",");
  EXPECT_THAT(Tokenizer::parse(json, "nested").encode("ly", false), ElementsAre(10));
}

TEST(Tokenizer, EncodesTheReferenceModelsTexts) {
  const auto golden = data_folder() / "stories260K/golden.json";
  const auto model = data_folder() / "stories260K-hf";
  SKIP_WITHOUT(golden);
  SKIP_WITHOUT(model);
  const auto tokenizer = Tokenizer::load(model);
  const auto cases = json_content(golden)["cases"];
  ASSERT_EQ(cases.size(), 8);
  for (const auto& test : cases) {
    EXPECT_EQ(tokenizer.encode(test["text"].get<std::string>()), test["ids"].get<Ids>()) << test["text"];
    EXPECT_EQ(tokenizer.decode(test["ids"].get<Ids>()), test["text"].get<std::string>());
  }
  EXPECT_EQ(tokenizer.decode(tokenizer.encode_continuation(" He ran"), false), "He ran");
  EXPECT_EQ(tokenizer.decode_continuation(tokenizer.encode_continuation(" He ran")), " He ran");
  EXPECT_EQ(tokenizer.special().bos, 1);
  EXPECT_THAT(tokenizer.special().stop, ElementsAre(1));
}

}  // namespace
}  // namespace infalign::text
