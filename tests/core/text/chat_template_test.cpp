#include "core/text/chat_template.h"

#include <gmock/gmock.h>

#include "core/error.h"
#include "core/text/test_data.h"

namespace infalign::text {
namespace {

using Messages = nlohmann::ordered_json;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

const Messages kMessages = Messages::parse(R"([{"role": "system", "content": "Be brief."},
  {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Bye"}])");

std::string rendered(const std::string& source, const Messages& messages = kMessages,
                     bool add_generation_prompt = false) {
  return ChatTemplate::parse(source, "test.jinja", {{"bos_token", "<s>"}, {"eos_token", "</s>"}})
      .render(messages, add_generation_prompt);
}

void expect_refused(const std::string& source, const std::string& what) {
  EXPECT_THAT(
      [&] { rendered(source); },
      ThrowsMessage<InputError>(AllOf(HasSubstr("test.jinja: line "), HasSubstr(what), HasSubstr("chatml"))))
      << source.substr(0, 100);
}

TEST(ChatTemplate, RendersWhatModelFoldersStore) {
  SKIP_WITHOUT(tokenizers_folder());
  int chats = 0;
  for (const auto& folder : std::filesystem::directory_iterator(tokenizers_folder())) {
    if (!std::filesystem::exists(folder.path() / "vectors.json")) continue;
    const auto vectors = Messages::parse(file_content(folder.path() / "vectors.json"));
    for (const auto& chat : vectors["chat"]) {
      SCOPED_TRACE(folder.path().filename().string() + " " + chat.dump());
      const auto chat_template = ChatTemplate::load(folder.path());
      ASSERT_TRUE(chat_template);
      const auto render = [&] {
        return chat_template->render(chat["messages"], chat["add_generation_prompt"]);
      };
      ++chats;
      if (chat.contains("text")) {
        EXPECT_EQ(render(), chat["text"]);
      } else {
        EXPECT_THAT(render, ThrowsMessage<InputError>(HasSubstr(chat["error"])));
      }
    }
  }
  EXPECT_GT(chats, 0) << tokenizers_folder() << " holds no chats";
}

/// What Jinja makes of seventy-seven small templates (make_template_cases.py).
TEST(ChatTemplate, DoesWhatJinjaDoes) {
  const auto content = Messages::parse(
      file_content(std::filesystem::path(INFALIGN_SOURCE_DIR) / "tests/core/text/template_cases.json"));
  TemplateVariables variables;
  for (const auto& [name, value] : content["variables"].items()) variables.emplace_back(name, value);
  ASSERT_GT(content["cases"].size(), 75u);
  for (const auto& one : content["cases"]) {
    SCOPED_TRACE(one["template"]);
    const auto render = [&] {
      return ChatTemplate::parse(one["template"].get<std::string>(), "case", variables)
          .render(content["messages"], true);
    };
    if (one.contains("text")) {
      EXPECT_EQ(render(), one["text"]);
    } else {
      EXPECT_THROW(render(), InputError);
    }
  }
}

TEST(ChatTemplate, NamesTheConstructItDoesNotKnow) {
  expect_refused("a\n{% include 'x' %}", "line 2: the statement 'include' is not supported");
  expect_refused("{{ messages | batch(2) }}", "line 1: the filter 'batch' is not supported");
  expect_refused("\n\n{{ 1 is frobnicated }}", "line 3: the test 'frobnicated' is not supported");
  expect_refused("{{ 'abc'.format(1) }}", "the method 'format' of a string is not supported");
  expect_refused("{% for i in [1] recursive %}{% endfor %}", "'recursive' is not supported");
  expect_refused("{{ f(**x) }}", "'**' before an argument is not supported");
  expect_refused("{{ '%d' % 1 }}", "'%' between a string and a whole number is not supported");
  expect_refused("{{ strftime_now('%Y') }}", "depend on the day");
  expect_refused("{{ 'é' | upper }}", "upper of letters beyond ASCII");
  expect_refused("{{ ().__class__ }}", "the attribute '__class__' is not supported");
  expect_refused("{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}", "'caller' is not supported");
  expect_refused("{{ messages | map(attribute='role') | length }}", "put `| list` behind it");
  expect_refused("{% set x = [1] | select %}{{ x | list }}{{ x | list }}", "a generator is used twice");
  expect_refused("{{ namespace() }}", "a namespace cannot be written as text");
  expect_refused("{% for i in [1] %}{% macro f() %}{% endmacro %}{% endfor %}", "a macro within a loop");
}

TEST(ChatTemplate, NamesTheLineOfAMistake) {
  expect_refused("{% if x %}", "line 1: 'endif' is missing");
  expect_refused("\n{{ x", "line 2: the tag does not end");
  expect_refused("{# x", "the comment does not end");
  expect_refused("{{ 'x }}", "the string does not end");
  expect_refused("{% raw %}", "the block 'raw' does not end");
  expect_refused("{% endif %}", "the statement 'endif' is not supported here");
  expect_refused("{{ a b }}", "expected '}}', found 'b'");
  expect_refused("{{ (1 }}", "unexpected '}'");
  expect_refused("{{ $ }}", "unexpected character '$'");
  expect_refused("{% break %}", "outside a loop");
  expect_refused("{{ 'a' + 1 }}", "'+' between a string and a whole number");
  expect_refused("{{ nope.x }}", "'nope' is undefined");
  expect_refused("{{ 9223372036854775807 + 1 }}", "beyond 64 bits");
  expect_refused("{% set x.y = 1 %}", "'x' is no namespace");
  expect_refused("{{ 1 // 0 }}", "division by zero");
  expect_refused("{% for a, b in [[1]] %}{% endfor %}", "2 names for 1 values");
}

TEST(ChatTemplate, BoundsDepthWorkAndSize) {
  const auto times = [](int n, const std::string& text) {
    std::string result;
    for (int i = 0; i < n; ++i) result += text;
    return result;
  };
  expect_refused("{{ " + times(100'000, "(") + "1" + times(100'000, ")") + " }}", "nested too deeply");
  expect_refused("{{ 1" + times(100'000, " + 1") + " }}", "too long a chain");
  expect_refused("{{ x" + times(100'000, ".y") + " }}", "too long a chain");
  expect_refused("{{ " + times(100'000, "not ") + "x }}", "nested too deeply");
  expect_refused("{{ " + times(100'000, "-") + "1 }}", "nested too deeply");
  expect_refused(times(20'000, "{% if x %}") + times(20'000, "{% endif %}"), "nested too deeply");
  expect_refused("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "too deep");
  expect_refused("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
                 "too much work");
  expect_refused(
      "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
      "too much work");
  expect_refused(
      "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
      "larger than 64 MiB");
  expect_refused("{% set n = namespace(s=[1]) %}{% for i in range(999) %}{% set n.s = [n.s] %}{% endfor %}",
                 "levels deep");
  expect_refused("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
                 "too much work");
  expect_refused("{{ 'x' * 4000000000000000000 }}", "larger than 64 MiB");
  expect_refused("{{ range(1000000000) | list }}", "more than 100000 numbers");
  expect_refused("{% set n = namespace() %}{% set n.n = n %}{{ n.n.n.n }}",
                 "cannot be written as text");  // no leak
}

TEST(ChatTemplate, RefusesMessagesThatAreNone) {
  EXPECT_THAT([] { rendered("x", Messages::object()); },
              ThrowsMessage<InputError>(HasSubstr("must be a list")));
  EXPECT_THAT([] { rendered("x", Messages::parse(R"([{"content": "x"}])")); },
              ThrowsMessage<InputError>(HasSubstr("an object with \"role\"")));
  EXPECT_THAT([] { rendered("x", Messages::parse(R"([{"role": "user", "n": 18446744073709551615}])")); },
              ThrowsMessage<InputError>(HasSubstr("beyond 64 bits")));
  Messages deep = 1;
  for (int i = 0; i < 1000; ++i) deep = Messages::array({std::move(deep)});
  EXPECT_THAT(
      [&] {
        rendered("x", Messages::array({{{"role", "user"}, {"content", std::move(deep)}}}));
      },
      ThrowsMessage<InputError>(HasSubstr("levels deep")));
}

TEST(ChatTemplate, BuiltInFormats) {
  const TemporaryFolder folder;
  folder.write("tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}})");
  const auto of = [&](const std::string& name, const Messages& messages) {
    return ChatTemplate::load(folder.path(), name)->render(messages, true);
  };
  Messages turns = kMessages;  // without a system message
  turns.erase(0);
  EXPECT_EQ(
      of("chatml", kMessages),
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello"
      "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(of("gemma", turns),
            "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n<start_of_"
            "turn>user\nBye"
            "<end_of_turn>\n<start_of_turn>model\n");
  EXPECT_EQ(of("llama2", kMessages),
            "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST]");
  EXPECT_EQ(
      of("llama3", turns),
      "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_"
      "id|>\n\n"
      "Hello<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant"
      "<|end_header_id|>\n\n");
  EXPECT_EQ(of("mistral", kMessages), "<s>[INST] Be brief.\n\nHi [/INST] Hello</s>[INST] Bye [/INST]");
  EXPECT_EQ(of("phi3", turns),
            "<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n");
  EXPECT_EQ(of("transcript", turns), "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant:");
  EXPECT_EQ(of("zephyr", turns),
            "<|user|>\nHi</s>\n<|assistant|>\nHello</s>\n<|user|>\nBye</s>\n<|assistant|>\n");
  EXPECT_THAT([&] { of("gemma", kMessages); }, ThrowsMessage<InputError>(HasSubstr("has no system message")));
  EXPECT_EQ(ChatTemplate::built_in_names().size(), 8u);
}

TEST(ChatTemplate, IsFoundWhereModelFoldersKeepIt) {
  const TemporaryFolder folder;
  const auto load = [&](const std::string& choice = {}) {
    const auto found = ChatTemplate::load(folder.path(), choice);
    return found ? found->render(kMessages, false) : "none";
  };
  EXPECT_EQ(load(), "none");
  folder.write("tokenizer_config.json",
               R"({"bos_token": null, "chat_template": "plain {{ bos_token is defined }}"})");
  EXPECT_EQ(load(), "plain False");
  folder.write("tokenizer_config.json", R"({"bos_token": "B", "chat_template": [
    {"name": "tool_use", "template": "tools"}, {"name": "default", "template": "listed {{ bos_token }}"}]})");
  EXPECT_EQ(load(), "listed B");
  folder.write("tokenizer_config.json", R"({"chat_template": [{"name": "x", "template": "y"}]})");
  EXPECT_THAT([&] { load(); }, ThrowsMessage<InputError>(HasSubstr("none with the name 'default'")));
  folder.write("chat_template.jinja", "file");
  EXPECT_EQ(load(), "file");
  EXPECT_EQ(load(folder.write("other.jinja", "other {{ messages[1].content }}").string()), "other Hi");
  EXPECT_THAT(
      [&] { load("nonesuch"); },
      ThrowsMessage<InputError>(AllOf(HasSubstr("neither a file"), HasSubstr("chatml, gemma, llama2"))));
}

}  // namespace
}  // namespace infalign::text
