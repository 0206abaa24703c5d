#include "core/text/tokenizer/decoder.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace infalign::text {
namespace {

std::string decoded(const char* part, std::vector<std::string> tokens, bool continues = false) {
  const Json json = Json::parse(part);
  for (const Decoder& decoder : build_decoders(json, "tokenizer.json")) decoder(tokens, continues);
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

TEST(Decoder, WithoutOneTokensAreWords) { EXPECT_EQ(decoded("null", {"a", "b"}), "a b"); }

TEST(Decoder, ByteFallbackSpellsRunsOfBytes) {
  const char* part = R"({"type": "ByteFallback"})";
  EXPECT_EQ(decoded(part, {"a", "<0xC3>", "<0xA9>", "b"}), "aéb");
  EXPECT_EQ(decoded(part, {"<0xC3>", "b", "<0xA9>"}), "�b�");
  EXPECT_EQ(decoded(part, {"<0xC3>", "<0xA9>", "<0xFF>"}), "���");  // the whole run, as tokenizers does
  EXPECT_EQ(decoded(part, {"<0xG0>", "<0x0>", "<0x00>x"}), "<0xG0><0x0><0x00>x");
}

TEST(Decoder, ByteLevelTakesForeignTokensAsTheyAre) {
  const char* part = R"({"type": "ByteLevel"})";
  EXPECT_EQ(decoded(part, {"Ġa", "Ċ", "Ã", "©"}), " a\né");
  EXPECT_EQ(decoded(part, {"Ã", "<日>"}), "�<日>");
}

TEST(Decoder, StripCutsAtBothEnds) {
  const char* part = R"({"type": "Strip", "content": "_", "start": 1, "stop": 2})";
  EXPECT_EQ(decoded(part, {"__a___", "b_"}), "_a_b");
  EXPECT_EQ(decoded(part, {"__", "_"}), "");
  EXPECT_EQ(decoded(part, {"__a", "_b"}, true), "__ab");
}

TEST(Decoder, MetaspaceDropsTheDummySpace) {
  EXPECT_EQ(decoded(R"({"type": "Metaspace", "replacement": "▁"})", {"▁a", "▁b▁"}), "a b ");
  EXPECT_EQ(decoded(R"({"type": "Metaspace", "replacement": "▁"})", {"▁a", "▁b"}, true), " a b");
  EXPECT_EQ(decoded(R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"})", {"▁a"}), " a");
  EXPECT_EQ(decoded(R"({"type": "Metaspace", "replacement": "▁", "add_prefix_space": false})", {"▁a"}), " a");
}

TEST(Decoder, SequencesActInOrder) {
  const char* part = R"({"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"Regex": "x+"}, "content": " "}, {"type": "Fuse"},
      {"type": "Sequence", "decoders": [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]}]})";
  EXPECT_EQ(decoded(part, {"xx", "xa"}), " a");
}

}  // namespace
}  // namespace infalign::text
