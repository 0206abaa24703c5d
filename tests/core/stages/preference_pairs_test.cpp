#include "core/stages/preference_pairs.h"

#include <gmock/gmock.h>

#include <fstream>
#include <set>

#include "core/error.h"
#include "support/scratch_folder.h"

namespace infalign::stages {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

/// One id a letter.
text::Tokenizer letters() {
  std::string vocabulary;
  for (char c = 'a'; c <= 'z'; ++c)
    vocabulary += (vocabulary.empty() ? "\"" : ", \"") + std::string(1, c) + "\": " + std::to_string(c - 'a');
  return text::Tokenizer::parse(R"({"model": {"type": "BPE", "merges": [], "vocab": {)" + vocabulary + "}}}",
                                "test");
}

class PreferencePairsTest : public testing::Test {
 protected:
  PreferencePairs read(const std::string& lines) {
    settings.preferences = folder_.path() / "pairs.jsonl";
    std::ofstream(settings.preferences) << lines;
    return read_preference_pairs(settings, letters(), closing, 1000, [] {
      return text::ChatTemplate::parse("{% for m in messages %}{{ m.content }}{% endfor %}", "test.jinja");
    });
  }

  experiment::Reward settings;
  std::optional<std::int32_t> closing;

 private:
  ScratchFolder folder_;
};

using Ids = std::vector<std::int32_t>;

constexpr const char* kPairs =
    R"({"prompt": "abcd", "chosen": "ef", "rejected": "g"}
{"prompt": "a", "chosen": "bcdefgh", "rejected": "i"}
{"prompt": "a", "chosen": "b", "rejected": "c"}
)";

TEST_F(PreferencePairsTest, LongPairsLoseTheirBeginningAndAreCounted) {
  settings.heldout_fraction = 0;
  settings.max_tokens = 5;
  const auto data = read(kPairs);
  ASSERT_EQ(data.pairs.size(), 3u);
  EXPECT_EQ(data.pairs[0].prompt, (Ids{1, 2, 3}));  // with the longer answer it is 5 tokens
  EXPECT_EQ(data.pairs[0].chosen, (Ids{4, 5}));
  EXPECT_EQ(data.pairs[1].prompt, (Ids{0}));  // one token of a prompt always stays
  EXPECT_EQ(data.pairs[1].chosen, (Ids{4, 5, 6, 7}));
  EXPECT_EQ(data.pairs[2].prompt, (Ids{0}));
  EXPECT_EQ(data.truncated, 2);
  EXPECT_EQ(data.dropped, 0);
  EXPECT_EQ(data.too_long(), "2 pairs too long, without their beginning");
}

TEST_F(PreferencePairsTest, LongPairsAreDroppedWhereAskedAndCounted) {
  settings.heldout_fraction = 0;
  settings.max_tokens = 5;
  settings.too_long = "drop";
  const auto data = read(kPairs);
  ASSERT_EQ(data.pairs.size(), 1u);
  EXPECT_EQ(data.pairs[0].chosen, (Ids{1}));
  EXPECT_EQ(data.dropped, 2);
  EXPECT_EQ(data.too_long(), "2 pairs too long, left out");
  EXPECT_THAT([&] { read(R"({"prompt": "abcd", "chosen": "ef", "rejected": "g"})"); },
              ThrowsMessage<InputError>(HasSubstr("left to train on (1 pair too long, left out)")));
}

TEST_F(PreferencePairsTest, EveryAnswerMayBeClosedByAToken) {
  settings.heldout_fraction = 0;
  settings.max_tokens = 5;
  closing = 25;
  const auto data = read(kPairs);
  EXPECT_EQ(data.pairs[0].prompt, (Ids{2, 3}));
  EXPECT_EQ(data.pairs[0].chosen, (Ids{4, 5, 25}));
  EXPECT_EQ(data.pairs[0].rejected, (Ids{6, 25}));
  EXPECT_EQ(data.pairs[1].chosen, (Ids{5, 6, 7, 25})) << "what is cut is the beginning";
  const auto transcript = read(R"({"chosen": "\n\nHuman: ab\n\nAssistant: c", )"
                               R"("rejected": "\n\nHuman: ab\n\nAssistant: d"})");
  EXPECT_EQ(transcript.pairs.at(0).chosen, (Ids{2, 25}));
}

TEST_F(PreferencePairsTest, LongPairsAreRefusedWhereAsked) {
  settings.heldout_fraction = 0;
  settings.max_tokens = 6;
  settings.too_long = "error";
  EXPECT_THAT([&] { read(kPairs); }, ThrowsMessage<InputError>(HasSubstr("pair 2 is 8 tokens, more than 6")));
}

TEST_F(PreferencePairsTest, TranscriptsAreMessagesForAModelWithATemplate) {
  settings.heldout_fraction = 0;
  const auto data = read(R"({"chosen": "\n\nHuman: ab\n\nAssistant: cd\n\nHuman: e\n\nAssistant: f", )"
                         R"("rejected": "\n\nHuman: ab\n\nAssistant: cd\n\nHuman: e\n\nAssistant: g"})");
  EXPECT_EQ(data.pairs.at(0).prompt, (Ids{0, 1, 2, 3, 4}));
  EXPECT_EQ(data.pairs.at(0).chosen, (Ids{5}));
  EXPECT_EQ(data.pairs.at(0).rejected, (Ids{6}));
}

TEST_F(PreferencePairsTest, APairsOwnMarginCountsBeforeTheSettings) {
  settings.heldout_fraction = 0;
  settings.margin = 0.25;
  const auto data = read(R"({"prompt": "a", "chosen": "b", "rejected": "c", "margin": 1.5})"
                         "\n"
                         R"({"prompt": "b", "chosen": "b", "rejected": "c"})");
  EXPECT_EQ(data.pairs.at(0).margin, 1.5);
  EXPECT_EQ(data.pairs.at(1).margin, 0.25);
  EXPECT_THAT([&] { read(R"({"prompt": "a", "chosen": "b", "rejected": "c", "margin": "large"})"); },
              ThrowsMessage<InputError>(HasSubstr(":1: 'margin' must be a number")));
}

TEST_F(PreferencePairsTest, MessagesAreWrittenByTheTemplate) {
  settings.heldout_fraction = 0;
  const auto data = read(
      R"({"prompt": [{"role": "user", "content": "ab"}], "chosen": [{"role": "assistant", "content": "c"}], )"
      R"("rejected": [{"role": "assistant", "content": "d"}]})");
  EXPECT_EQ(data.pairs.at(0).prompt, (Ids{0, 1}));
  EXPECT_EQ(data.pairs.at(0).chosen, (Ids{2}));
  EXPECT_EQ(data.pairs.at(0).rejected, (Ids{3}));
  EXPECT_EQ(data.too_long(), "");
}

/// With 400 prompts of 3 pairs each and half held out, the chance that one side stays empty is below 1e-100.
TEST_F(PreferencePairsTest, APromptIsNeverOnBothSides) {
  settings.heldout_fraction = 0.5;
  std::string lines;
  for (int i = 0; i < 1200; ++i) {
    const std::string prompt = {static_cast<char>('a' + i % 20), static_cast<char>('a' + i / 20 % 20)};
    lines += R"({"prompt": ")" + prompt + R"(", "chosen": "x", "rejected": "y"})" + "\n";
  }
  const auto data = read(lines);
  std::set<Ids> train, heldout;
  for (const auto i : data.train) train.insert(data.pairs[static_cast<std::size_t>(i)].prompt);
  for (const auto i : data.heldout) heldout.insert(data.pairs[static_cast<std::size_t>(i)].prompt);
  EXPECT_EQ(data.train.size() + data.heldout.size(), 1200u);
  EXPECT_EQ(train.size() + heldout.size(), 400u);
  EXPECT_GT(train.size(), 100u);
  EXPECT_GT(heldout.size(), 100u);
}

}  // namespace
}  // namespace infalign::stages
