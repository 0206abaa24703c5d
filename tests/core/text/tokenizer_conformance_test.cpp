// Every tokenizer folder with a vectors.json must encode and decode as Hugging Face's tokenizers does, to the
// id. The folders are looked up when a test runs, not when it is built: INFALIGN_TOKENIZERS may name other
// ones.
#include <gmock/gmock.h>

#include <algorithm>
#include <functional>

#include "core/text/test_data.h"
#include "core/text/tokenizer.h"
#include "core/text/utf8.h"

namespace infalign::text {
namespace {

using Ids = std::vector<std::int32_t>;
using Json = nlohmann::json;

class TokenizerConformance : public testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT(tokenizers_folder()); }

  static void for_each_folder(const std::function<void(const Tokenizer& tokenizer, const Json& vectors,
                                                       const std::string& name)>& check) {
    int folders = 0;
    for (const auto& folder : std::filesystem::directory_iterator(tokenizers_folder())) {
      if (!std::filesystem::exists(folder.path() / "vectors.json")) continue;
      const std::string name = folder.path().filename().string();
      SCOPED_TRACE(name);
      ASSERT_NO_THROW(
          check(Tokenizer::load(folder.path()), json_content(folder.path() / "vectors.json"), name));
      ++folders;
    }
    EXPECT_GT(folders, 0) << tokenizers_folder() << " holds no folder with a vectors.json";
  }
};

TEST_F(TokenizerConformance, CountsTheVocabulary) {
  for_each_folder([](const Tokenizer& tokenizer, const Json& vectors, const std::string&) {
    EXPECT_EQ(tokenizer.vocabulary_size(), vectors["vocab_size"].get<std::int64_t>());
  });
}

TEST_F(TokenizerConformance, EncodesWithSpecialTokens) {
  for_each_folder([](const Tokenizer& tokenizer, const Json& vectors, const std::string&) {
    for (const auto& vector : vectors["encode"])
      EXPECT_EQ(tokenizer.encode(vector["text"].get<std::string>()), vector["ids"].get<Ids>())
          << vector["text"];
  });
}

TEST_F(TokenizerConformance, EncodesWithoutSpecialTokens) {
  for_each_folder([](const Tokenizer& tokenizer, const Json& vectors, const std::string&) {
    for (const auto& vector : vectors["encode"])
      EXPECT_EQ(tokenizer.encode(vector["text"].get<std::string>(), false),
                vector["ids_without_special"].get<Ids>())
          << vector["text"];
  });
}

TEST_F(TokenizerConformance, DecodesWithSpecialTokens) {
  for_each_folder([](const Tokenizer& tokenizer, const Json& vectors, const std::string&) {
    for (const char* section : {"encode", "decode"})
      for (const auto& vector : vectors[section])
        EXPECT_EQ(tokenizer.decode(vector["ids"].get<Ids>(), false), vector["decoded"].get<std::string>())
            << vector["ids"];
  });
}

TEST_F(TokenizerConformance, DecodesSkippingSpecialTokens) {
  for_each_folder([](const Tokenizer& tokenizer, const Json& vectors, const std::string&) {
    for (const char* section : {"encode", "decode"})
      for (const auto& vector : vectors[section])
        EXPECT_EQ(tokenizer.decode(vector["ids"].get<Ids>(), true),
                  vector["decoded_skipping_special"].get<std::string>())
            << vector["ids"];
  });
}

TEST_F(TokenizerConformance, EncodesRenderedChats) {
  for_each_folder([](const Tokenizer& tokenizer, const Json& vectors, const std::string&) {
    for (const auto& vector : vectors["chat"]) {
      if (!vector.contains("ids")) continue;  // the template raises
      EXPECT_EQ(tokenizer.encode(vector["text"].get<std::string>(), false), vector["ids"].get<Ids>())
          << vector["text"];
    }
  });
}

/// A continuation comes back as it was: byte-level tokenizers without a normalizer lose nothing,
/// SentencePiece-like ones only the difference between a space and the "▁" they write for it.
TEST_F(TokenizerConformance, ContinuationsComeBack) {
  for_each_folder([](const Tokenizer& tokenizer, const Json& vectors, const std::string& name) {
    const Json json = json_content(tokenizers_folder() / name / "tokenizer.json");
    const bool is_sentence_piece = json["model"].value("byte_fallback", false);
    if (!is_sentence_piece && !json["normalizer"].is_null()) return;
    for (const auto& vector : vectors["encode"]) {
      const auto text = vector["text"].get<std::string>();
      EXPECT_EQ(tokenizer.decode_continuation(tokenizer.encode_continuation(text), false),
                is_sentence_piece ? replaced(text, "▁", " ") : text);
    }
  });
}

/// Megabytes together of what makes a careless tokenizer quadratic, which would exceed the time limit of any
/// test.
TEST_F(TokenizerConformance, MegabytesOfHardTextAreEncoded) {
  std::vector<std::string> texts;
  for (const std::string unit :
       {"a", "ab", " ", "\n", "\u0301", "\u0323\u0301", "\u0041\u0301", "1", "日", "a ", "'s"}) {
    texts.emplace_back();
    while (texts.back().size() < 250'000) texts.back() += unit;
  }
  for_each_folder([&](const Tokenizer& tokenizer, const Json&, const std::string& name) {
    const Json json = json_content(tokenizers_folder() / name / "tokenizer.json");
    const bool keeps_text = json["normalizer"].is_null() && !json["model"].value("byte_fallback", false);
    for (const std::string& text : texts) {
      const Ids ids = tokenizer.encode_continuation(text);
      EXPECT_FALSE(ids.empty());
      if (!keeps_text) continue;
      EXPECT_TRUE(tokenizer.decode_continuation(ids, false) == text) << text.substr(0, 8);
    }
  });
}

}  // namespace
}  // namespace infalign::text
