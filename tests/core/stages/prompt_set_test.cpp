// Prompts as a run reads them: plain text, and messages written by a chat template.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/stages/language_problem.h"
#include "core/text/chat_template.h"

namespace infalign::stages {
namespace {

const std::filesystem::path kModel = std::filesystem::path(INFALIGN_SOURCE_DIR) / "data/storyteller";

std::filesystem::path written(const std::string& name, const std::string& lines) {
  const auto path = std::filesystem::path(::testing::TempDir()) / name;
  std::ofstream(path) << lines;
  return path;
}

PromptSet read(const std::filesystem::path& file, const std::string& chat_template, std::int64_t room = 100) {
  const auto tokenizer = text::Tokenizer::load(kModel);
  return read_prompt_set(
      file, 0, tokenizer, [&] { return text::ChatTemplate::load(kModel, chat_template); }, room, 10);
}

TEST(PromptSet, WritesMessagesByTheTemplate) {
  const auto file = written("chat_prompts.jsonl",
                            "{\"prompt\": \"Once upon a time\"}\n"
                            "{\"messages\": [{\"role\": \"user\", \"content\": \"Tell me of a fox.\"}]}\n");
  const auto set = read(file, "transcript");
  ASSERT_EQ(set.text.size(), 2u);
  EXPECT_EQ(set.text[1], "\n\nHuman: Tell me of a fox.\n\nAssistant:");
  const auto tokenizer = text::Tokenizer::load(kModel);
  EXPECT_EQ(set.tokens[0], tokenizer.encode("Once upon a time"));
  EXPECT_EQ(set.tokens[1], tokenizer.encode(set.text[1], false));
  EXPECT_NE(set.id[0], set.id[1]);
}

TEST(PromptSet, MessagesNeedATemplate) {
  const auto file =
      written("no_template.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}\n");
  EXPECT_THROW(read(file, ""), InputError);
}

TEST(PromptSet, NamesAPromptThatLeavesNoRoom) {
  const auto file =
      written("long.jsonl", "{\"prompt\": \"One\"}\n{\"prompt\": \"Once upon a time there was a fox\"}\n");
  try {
    read(file, "", 13);
    FAIL() << "not refused";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("prompt 2 is"));
  }
}

}  // namespace
}  // namespace infalign::stages
