// Prompts as a run reads them: plain text, and messages written by a chat template.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/stages/prompt_set.h"
#include "core/stages/storyteller.h"
#include "core/text/chat_template.h"
#include "support/scratch_folder.h"

namespace infalign::stages {
namespace {

class PromptSetTest : public testing::Test {
 protected:
  std::filesystem::path written(const std::string& name, const std::string& lines) const {
    const auto path = folder_.path() / name;
    std::ofstream(path) << lines;
    return path;
  }

 private:
  ScratchFolder folder_;
};

PromptSets read_sets(const experiment::Prompts& settings, const std::string& chat_template = "",
                     std::int64_t room = 100) {
  const auto tokenizer = text::Tokenizer::load(kStoryteller);
  return read_prompt_sets(
      settings, tokenizer, [&] { return text::ChatTemplate::load(kStoryteller, chat_template); }, room, 10);
}

PromptSet read(const std::filesystem::path& file, const std::string& chat_template, std::int64_t room = 100) {
  experiment::Prompts settings;
  settings.train = file;
  return read_sets(settings, chat_template, room).train;
}

TEST_F(PromptSetTest, WritesMessagesByTheTemplate) {
  const auto file = written("chat_prompts.jsonl",
                            "{\"prompt\": \"Once upon a time\"}\n"
                            "{\"messages\": [{\"role\": \"user\", \"content\": \"Tell me of a fox.\"}]}\n");
  const auto set = read(file, "transcript");
  ASSERT_EQ(set.text.size(), 2u);
  EXPECT_EQ(set.text[1], "\n\nHuman: Tell me of a fox.\n\nAssistant:");
  const auto tokenizer = text::Tokenizer::load(kStoryteller);
  EXPECT_EQ(set.tokens[0], tokenizer.encode("Once upon a time"));
  EXPECT_EQ(set.tokens[1], tokenizer.encode(set.text[1], false));
  EXPECT_NE(set.id[0], set.id[1]);
}

TEST_F(PromptSetTest, MessagesNeedATemplate) {
  const auto file =
      written("no_template.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}\n");
  EXPECT_THROW(read(file, ""), InputError);
}

TEST_F(PromptSetTest, NamesAPromptThatLeavesNoRoom) {
  const auto file =
      written("long.jsonl", "{\"prompt\": \"One\"}\n{\"prompt\": \"Once upon a time there was a fox\"}\n");
  try {
    read(file, "", 13);
    FAIL() << "not refused";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("prompt 2 is"));
  }
}

constexpr const char* kThree =
    "{\"prompt\": \"One\"}\n{\"prompt\": \"Once upon a time there was a fox\"}\n{\"prompt\": \"One\"}\n";

TEST_F(PromptSetTest, LongPromptsAreLeftOutAndEqualOnesKeptOnce) {
  experiment::Prompts settings;
  settings.train = written("three.jsonl", kThree);
  settings.max_tokens = 4;
  settings.too_long = "drop";
  const auto sets = read_sets(settings);
  EXPECT_THAT(sets.train.text, ::testing::ElementsAre("One"));
  EXPECT_THAT(sets.notes, ::testing::ElementsAre("prompts: 1 prompt of more than 4 tokens, left out",
                                                 "prompts: 1 prompt equal to an earlier one, left out"));
}

TEST_F(PromptSetTest, LongPromptsKeepTheirEndAndTheBeginningMark) {
  experiment::Prompts settings;
  settings.train = written("three.jsonl", kThree);
  settings.max_tokens = 4;
  settings.too_long = "truncate_left";
  const auto sets = read_sets(settings);
  const auto tokenizer = text::Tokenizer::load(kStoryteller);
  const auto whole = tokenizer.encode("Once upon a time there was a fox");
  ASSERT_EQ(sets.train.tokens.size(), 2u);
  const std::vector<std::int32_t> kept = {whole[0], whole.end()[-3], whole.end()[-2], whole.end()[-1]};
  EXPECT_EQ(whole[0], tokenizer.special().bos);
  EXPECT_EQ(sets.train.tokens[1], kept);
  EXPECT_THAT("Once upon a time there was a fox", ::testing::EndsWith(sets.train.text[1]));
  EXPECT_NE(sets.train.id[0], sets.train.id[1]);
}

TEST_F(PromptSetTest, NamesThePromptAndTheLimitItExceeds) {
  experiment::Prompts settings;
  settings.train = written("three.jsonl", kThree);
  settings.max_tokens = 4;
  EXPECT_THAT([&] { read_sets(settings); },
              ::testing::ThrowsMessage<InputError>(
                  ::testing::AllOf(::testing::HasSubstr("prompt 2 is"),
                                   ::testing::HasSubstr("prompts.max_tokens is 4; shorten it, or set"))));
  settings.too_long = "drop";
  settings.max_tokens = 1;
  EXPECT_THAT([&] { read_sets(settings); },
              ::testing::ThrowsMessage<InputError>(::testing::HasSubstr("no prompts left to train on")));
}

TEST_F(PromptSetTest, WhatIsHeldOutIsNotTrainedOn) {
  experiment::Prompts settings;
  settings.train = written("three.jsonl", kThree);
  settings.heldout = written("one.jsonl", "{\"prompt\": \"One\"}\n");
  const auto sets = read_sets(settings);
  EXPECT_THAT(sets.heldout.text, ::testing::ElementsAre("One"));
  EXPECT_THAT(sets.train.text, ::testing::ElementsAre("Once upon a time there was a fox"));
  EXPECT_THAT(sets.notes, ::testing::Contains("prompts: 1 prompt held out though in prompts.train too"));
}

/// With 300 prompts and a third held out, either count is outside 60 to 140 with a chance below 1e-6.
TEST_F(PromptSetTest, HoldsOutAShareByTheTextAlone) {
  std::string lines, reversed;
  for (int i = 0; i < 300; ++i) {
    const auto line = "{\"prompt\": \"Number " + std::to_string(i) + "\"}\n";
    lines += line;
    reversed = line + reversed;
  }
  experiment::Prompts settings;
  settings.heldout_fraction = 1.0 / 3;
  settings.train = written("forwards.jsonl", lines);
  const auto forwards = read_sets(settings);
  settings.train = written("backwards.jsonl", reversed);
  const auto backwards = read_sets(settings);
  EXPECT_EQ(forwards.train.id.size() + forwards.heldout.id.size(), 300u);
  EXPECT_GT(forwards.heldout.id.size(), 60u);
  EXPECT_LT(forwards.heldout.id.size(), 140u);
  EXPECT_THAT(backwards.heldout.id, ::testing::UnorderedElementsAreArray(forwards.heldout.id));
  settings.max_train = 20, settings.max_heldout = 10;
  const auto few = read_sets(settings);
  EXPECT_EQ(few.train.id.size(), 20u);
  EXPECT_EQ(few.heldout.id.size(), 10u);
}

}  // namespace
}  // namespace infalign::stages
