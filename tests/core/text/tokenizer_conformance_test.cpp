// Every tokenizer folder with a vectors.json must encode and decode as Hugging Face's tokenizers does, to the
// id.
#include <gmock/gmock.h>

#include "core/text/test_data.h"
#include "core/text/tokenizer.h"
#include "core/text/utf8.h"

namespace infalign::text {
namespace {

using Ids = std::vector<std::int32_t>;

std::vector<std::string> conformance_folders() {
  std::vector<std::string> names;
  if (std::filesystem::exists(tokenizers_folder()))
    for (const auto& entry : std::filesystem::directory_iterator(tokenizers_folder()))
      if (std::filesystem::exists(entry.path() / "vectors.json"))
        names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

class TokenizerConformance : public testing::TestWithParam<std::string> {
 protected:
  std::filesystem::path folder = tokenizers_folder() / GetParam();
  nlohmann::json vectors = json_content(folder / "vectors.json");
  Tokenizer tokenizer = Tokenizer::load(folder);
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TokenizerConformance);
INSTANTIATE_TEST_SUITE_P(Folders, TokenizerConformance, testing::ValuesIn(conformance_folders()),
                         [](const auto& folder) {
                           std::string name = folder.param;
                           std::ranges::replace_if(
                               name, [](char c) { return !std::isalnum(c); }, '_');
                           return name;
                         });

TEST(TokenizerConformanceData, IsThere) {
  SKIP_WITHOUT(tokenizers_folder());
  EXPECT_FALSE(conformance_folders().empty()) << tokenizers_folder();
}

TEST_P(TokenizerConformance, CountsItsVocabulary) {
  EXPECT_EQ(tokenizer.vocabulary_size(), vectors["vocab_size"].get<std::int64_t>());
}

TEST_P(TokenizerConformance, EncodesWithSpecialTokens) {
  for (const auto& vector : vectors["encode"])
    EXPECT_EQ(tokenizer.encode(vector["text"].get<std::string>()), vector["ids"].get<Ids>())
        << vector["text"];
}

TEST_P(TokenizerConformance, EncodesWithoutSpecialTokens) {
  for (const auto& vector : vectors["encode"])
    EXPECT_EQ(tokenizer.encode(vector["text"].get<std::string>(), false),
              vector["ids_without_special"].get<Ids>())
        << vector["text"];
}

TEST_P(TokenizerConformance, DecodesWithSpecialTokens) {
  for (const char* section : {"encode", "decode"})
    for (const auto& vector : vectors[section])
      EXPECT_EQ(tokenizer.decode(vector["ids"].get<Ids>(), false), vector["decoded"].get<std::string>())
          << vector["ids"];
}

TEST_P(TokenizerConformance, DecodesSkippingSpecialTokens) {
  for (const char* section : {"encode", "decode"})
    for (const auto& vector : vectors[section])
      EXPECT_EQ(tokenizer.decode(vector["ids"].get<Ids>(), true),
                vector["decoded_skipping_special"].get<std::string>())
          << vector["ids"];
}

TEST_P(TokenizerConformance, EncodesRenderedChats) {
  for (const auto& vector : vectors["chat"])
    if (vector.contains("ids")) {
      EXPECT_EQ(tokenizer.encode(vector["text"].get<std::string>(), false), vector["ids"].get<Ids>())
          << vector["text"];
    }
}

/// What is left of a text that the tokenizer rewrites: NFC, white space around added tokens, and
/// SentencePiece's "▁", which is a space to it. Elsewhere the text itself.
std::string as_tokenised(const Tokenizer& tokenizer, const std::string& text, const std::string& folder) {
  if (folder.starts_with("spm")) return replaced(text, "▁", " ");
  if (folder.find("qwen") == std::string::npos && !folder.starts_with("nfc")) return text;
  return tokenizer.decode(tokenizer.encode(text, false), false);
}

TEST_P(TokenizerConformance, DecodesContinuationsToThemselves) {
  for (const auto& vector : vectors["encode"]) {
    const auto text = vector["text"].get<std::string>();
    EXPECT_EQ(tokenizer.decode_continuation(tokenizer.encode_continuation(text), false),
              as_tokenised(tokenizer, text, GetParam()));
  }
}

}  // namespace
}  // namespace infalign::text
