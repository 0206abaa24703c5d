#include "core/text/records.h"

#include <gmock/gmock.h>
#include <zlib.h>

#include "core/error.h"
#include "core/text/test_data.h"

namespace infalign::text {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::ThrowsMessage;

std::string gzip(const std::string& content) {
  std::string result(content.size() + 100, '\0');
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(result.data());
  stream.avail_out = static_cast<uInt>(result.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  result.resize(stream.total_out);
  deflateEnd(&stream);
  return result;
}

std::vector<std::string> read_plain_prompts(const std::filesystem::path& path) { return read_prompts(path); }
std::vector<Preference> read_plain_preferences(const std::filesystem::path& path) {
  return read_preferences(path);
}

class Records : public testing::Test {
 protected:
  std::vector<std::pair<std::int64_t, std::string>> lines(const std::string& content) {
    std::vector<std::pair<std::int64_t, std::string>> found;
    for_each_line(write(content),
                  [&](std::string_view line, std::int64_t number) { found.emplace_back(number, line); });
    return found;
  }

  std::filesystem::path write(const std::string& content) { return folder.write("records", content); }

  template <class Read>
  void expect_refused(const Read& read, const std::string& content, const std::string& what) {
    const auto path = write(content);
    EXPECT_THAT([&] { read(path); },
                ThrowsMessage<InputError>(AllOf(HasSubstr(path.string()), HasSubstr(what))));
  }

  TemporaryFolder folder;
};

TEST_F(Records, LinesAreNumberedAndBlankOnesLeftOut) {
  EXPECT_THAT(lines("a\n\n  \nb\r\nc"), ElementsAre(Pair(1, "a"), Pair(4, "b"), Pair(5, "c")));
  EXPECT_THAT(lines(""), ElementsAre());
  EXPECT_THAT(lines("\n"), ElementsAre());
}

TEST_F(Records, LinesLongerThanABlockAreWhole) {
  const std::string longer(200'000, 'x');
  EXPECT_THAT(lines(longer + "\n" + longer + "y\nz\n"),
              ElementsAre(Pair(1, longer), Pair(2, longer + "y"), Pair(3, "z")));
}

TEST_F(Records, GzipIsToldByContent) {
  EXPECT_THAT(lines(gzip("a\nb\n")), ElementsAre(Pair(1, "a"), Pair(2, "b")));
  EXPECT_THAT(lines(gzip("a\nb") + gzip("c\n") + gzip("")), ElementsAre(Pair(1, "a"), Pair(2, "bc")));
  const std::string longer(3'000'000, 'x');
  EXPECT_THAT(lines(gzip(longer)), ElementsAre(Pair(1, longer)));
}

TEST_F(Records, BrokenGzipIsRefused) {
  const std::string whole = gzip("some lines\nof text\n");
  for (std::size_t length = 2; length < whole.size(); ++length)
    expect_refused(read_text, whole.substr(0, length), "truncated gzip");
  expect_refused(read_text, whole + "garbage", "damaged gzip");
  expect_refused(read_text, whole + whole.substr(0, 12), "truncated gzip");
  std::string damaged = whole;
  damaged[damaged.size() - 6] ^= 1;  // in the CRC
  expect_refused(read_text, damaged, "damaged gzip");
}

TEST_F(Records, FilesThatCannotBeReadAreNamed) {
  EXPECT_THAT([&] { read_text(folder.path() / "absent"); }, ThrowsMessage<InputError>(HasSubstr("absent")));
  EXPECT_THROW(read_text(folder.path()), InputError);
}

TEST_F(Records, InvalidUtf8IsPlaced) {
  expect_refused(read_text, "good\nb\xC3\n", ":2: invalid UTF-8");
  expect_refused(read_plain_prompts, "\"good\"\n\"b\xFF\"\n", ":2: invalid UTF-8 at byte 3");
}

TEST_F(Records, ReadsPromptsOfBothForms) {
  EXPECT_THAT(read_prompts(write("{\"prompt\": \"One\", \"id\": 1}\n\"Zwei ä\"\n")),
              ElementsAre("One", "Zwei ä"));
}

TEST_F(Records, RefusesWhatIsNoPrompt) {
  expect_refused(read_plain_prompts, "\"a\"\n{\"prompt\": \n", ":2: not valid JSON at byte");
  expect_refused(read_plain_prompts, "{\"text\": \"a\"}\n", ":1: key 'prompt' is missing");
  expect_refused(read_plain_prompts, "{\"prompt\": 3}\n", ":1: 'prompt' must be a string");
  expect_refused(read_plain_prompts, "{\"prompt\": \"\"}\n", ":1: the prompt is empty");
  expect_refused(read_plain_prompts, "[1]\n", ":1: expected");
  expect_refused(read_plain_prompts, "\n\n", "holds no prompts");
}

TEST_F(Records, ReadsPreferences) {
  const auto found = read_preferences(write(R"({"prompt": "", "chosen": "good", "rejected": "bad"})"
                                            "\n"));
  ASSERT_EQ(found.size(), 1);
  EXPECT_EQ(found[0].prompt, "");
  EXPECT_EQ(found[0].chosen, "good");
  EXPECT_EQ(found[0].rejected, "bad");
}

TEST_F(Records, SplitsTranscriptsAtTheLastSharedTurn) {
  const auto found = read_preferences(
      write(R"({"chosen": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: One\n\nAssistant: It is A", )"
            R"("rejected": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: One\n\nAssistant: It is B"})"));
  ASSERT_EQ(found.size(), 1);
  EXPECT_EQ(found[0].prompt, "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: One\n\nAssistant:");
  EXPECT_EQ(found[0].chosen, " It is A");
  EXPECT_EQ(found[0].rejected, " It is B");
}

TEST_F(Records, RefusesWhatIsNoPreference) {
  expect_refused(read_plain_preferences, R"({"prompt": "a", "chosen": "b"})",
                 ":1: key 'rejected' is missing");
  expect_refused(read_plain_preferences, R"({"chosen": "a", "rejected": "b"})", ":1: without a 'prompt'");
  expect_refused(read_plain_preferences, R"("a")", ":1: expected");
  expect_refused(read_plain_preferences, "", "holds no preferences");
}

class ChatRecords : public Records {
 protected:
  std::vector<Prompt> prompts(const std::string& content) { return read_prompts(write(content), chat); }
  Preference preference(const std::string& content) { return read_preferences(write(content), chat).at(0); }
  void expect_no_preference(const std::string& content, const std::string& what) {
    expect_refused([&](const auto& path) { read_preferences(path, chat); }, content, what);
  }

  std::string choice = "chatml";
  const ChatTemplateSource chat = [&] { return ChatTemplate::load(folder.path(), choice); };
};

TEST_F(ChatRecords, PromptsMayBeMessages) {
  const std::string messages = R"([{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}])";
  const auto found =
      prompts("{\"messages\": " + messages + "}\n{\"prompt\": " + messages + "}\n{\"prompt\": \"plain\"}");
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].text,
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(found[1].text, found[0].text);
  EXPECT_EQ(found[2].text, "plain");
  EXPECT_TRUE(found[0].is_chat && found[1].is_chat && !found[2].is_chat);
}

TEST_F(ChatRecords, RefusesPromptsThatNobodyCanAnswer) {
  const auto read = [&](const auto& path) { read_prompts(path, chat); };
  expect_refused(read, R"({"messages": []})", ":1: the list of messages is empty");
  expect_refused(read, R"({"messages": [{"role": "assistant", "content": "x"}]})",
                 "the last message is the assistant's");
  expect_refused(read, R"({"messages": ["x"]})",
                 ":1: the built-in chat template chatml: each message must be an object");
  expect_refused(read_plain_prompts, R"({"messages": [{"role": "user", "content": "x"}]})",
                 "messages need a chat template");
}

constexpr const char* kPrefix = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";

TEST_F(ChatRecords, AnswersGoOnFromAListOfMessages) {
  const auto found = preference(
      R"({"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "A"}], "rejected": [{"role": "assistant", "content": "B"}]})");
  EXPECT_EQ(found.prompt, kPrefix);
  EXPECT_EQ(found.chosen, "A<|im_end|>\n");
  EXPECT_EQ(found.rejected, "B<|im_end|>\n");
  EXPECT_TRUE(found.is_chat);
}

TEST_F(ChatRecords, WholeDialoguesShareTheirPrompt) {
  const std::string dialogues =
      R"("chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}], "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "B"}]})";
  for (const std::string before : {"{", "{\"prompt\": \"Hi\", "}) {
    const auto found = preference(before + dialogues);
    EXPECT_EQ(found.prompt, kPrefix);
    EXPECT_EQ(found.chosen, "A<|im_end|>\n");
    EXPECT_EQ(found.rejected, "B<|im_end|>\n");
  }
  expect_no_preference("{\"prompt\": \"Ho\", " + dialogues, "'prompt' is none of the messages");
}

constexpr const char* kTranscripts =
    R"({"chosen": "\n\nHuman: Hi\n\nAssistant: A", "rejected": "\n\nHuman: Hi\n\nAssistant: B"})";

TEST_F(ChatRecords, TranscriptsAreWrittenByTheTemplate) {
  const auto found = preference(kTranscripts);
  EXPECT_EQ(found.prompt, kPrefix);
  EXPECT_EQ(found.chosen, "A<|im_end|>\n");
  EXPECT_EQ(found.rejected, "B<|im_end|>\n");
  EXPECT_TRUE(found.is_chat);
}

TEST_F(ChatRecords, TheTranscriptFormatWritesTranscriptsAsTheyAre) {
  choice = "transcript";
  const auto found = preference(kTranscripts);
  EXPECT_EQ(found.prompt, "\n\nHuman: Hi\n\nAssistant:");
  EXPECT_EQ(found.chosen, " A");
}

TEST_F(ChatRecords, APreferenceIsAPromptToo) {
  const auto found = prompts(std::string(kTranscripts) +
                             R"(
{"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}], "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "B"}]}
{"prompt": "plain", "chosen": "A", "rejected": "B"})");
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].text, kPrefix);
  EXPECT_EQ(found[1].text, kPrefix);
  EXPECT_EQ(found[2].text, "plain");
  EXPECT_TRUE(found[0].is_chat && found[1].is_chat && !found[2].is_chat);
}

TEST_F(Records, ATranscriptIsAPromptUpToItsLastAnswer) {
  EXPECT_THAT(read_prompts(write(kTranscripts)), ElementsAre("\n\nHuman: Hi\n\nAssistant:"));
  expect_refused(read_plain_prompts, R"({"chosen": "a", "rejected": "b"})", ":1: without a 'prompt'");
}

TEST_F(ChatRecords, EqualAnswersLeaveThePromptToTheUser) {
  const auto found = preference(
      R"({"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}], "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}]})");
  EXPECT_EQ(found.prompt, kPrefix);
  EXPECT_EQ(found.chosen, found.rejected);
}

TEST_F(ChatRecords, RefusesPreferencesOfMixedKinds) {
  expect_no_preference(R"({"chosen": "a", "rejected": [{"role": "user", "content": "Hi"}]})",
                       "must both be strings");
  expect_no_preference(R"({"prompt": [{"role": "user", "content": "Hi"}], "chosen": "a", "rejected": "b"})",
                       "must be lists of messages, as 'prompt' is one");
  expect_no_preference(
      R"({"chosen": [{"role": "user", "content": "x"}], "rejected": [{"role": "user", "content": "y"}]})",
      "must begin with the same messages");
}

TEST_F(ChatRecords, RefusesATemplateThatRewritesThePrompt) {
  choice = folder.write("odd.jinja", "{% for m in messages %}{{ loop.revindex ~ m.content }}{% endfor %}")
               .string();
  expect_no_preference(
      R"({"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "A"}], "rejected": [{"role": "assistant", "content": "B"}]})",
      "writes the prompt in another way");
}

TEST_F(Records, HardJsonIsRefusedQuickly) {
  expect_refused(read_plain_prompts, std::string(1'000'000, '['), "more than 100 levels");
  std::string keys = "{";
  for (int i = 0; i < 100'000; ++i) keys += "\"" + std::to_string(i) + "\": 1, ";
  expect_refused(read_plain_prompts, keys + "\"x\": 1}", "more than 1000 keys");
}

TEST_F(Records, ReadsThePublicFiles) {
  SKIP_WITHOUT(data_folder());
  EXPECT_EQ(read_prompts(data_folder() / "tinystories/prompts.train.jsonl").size(), 625);
  EXPECT_EQ(read_prompts(data_folder() / "tinystories/prompts.heldout.jsonl").size(), 200);
  EXPECT_EQ(read_preferences(data_folder() / "goemotions/preferences.test.jsonl.gz").size(), 1070);
  const auto helpful = read_preferences(data_folder() / "hh-rlhf/helpful-base.test.jsonl.gz");
  EXPECT_EQ(helpful.size(), 2354);
  for (const auto& preference : helpful) EXPECT_TRUE(preference.prompt.ends_with("\n\nAssistant:"));
  EXPECT_EQ(read_preferences(data_folder() / "hh-rlhf/harmless-base.test.jsonl.gz").size(), 2312);
}

TEST_F(ChatRecords, ThePublicTranscriptsAreDialoguesForATemplate) {
  SKIP_WITHOUT(data_folder());
  for (const char* name : {"helpful-base", "harmless-base"}) {
    const auto file = data_folder() / "hh-rlhf" / (std::string(name) + ".test.jsonl.gz");
    const auto pairs = read_preferences(file, chat);
    const auto asked = read_prompts(file, chat);
    ASSERT_EQ(pairs.size(), asked.size());
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      EXPECT_EQ(pairs[i].prompt, asked[i].text);
      EXPECT_TRUE(pairs[i].prompt.ends_with("<|im_start|>assistant\n"));
      EXPECT_TRUE(pairs[i].chosen.ends_with("<|im_end|>\n"));
    }
  }
}

}  // namespace
}  // namespace infalign::text
