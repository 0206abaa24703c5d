// Damaged files must end in an InputError or be read: never in another exception, let alone a crash.
// Mutations come from a fixed seed, and are of two kinds: of bytes, which mostly break the JSON, and of the
// JSON's values, which get further. Under the address and undefined-behaviour sanitizers this test says more.
#include <gtest/gtest.h>
#include <zlib.h>

#include <nlohmann/json.hpp>

#include "core/text/chat_template.h"
#include "core/text/records.h"
#include "core/text/test_data.h"
#include "core/text/tokenizer.h"
#include "core/text/utf8.h"
#include "support/fuzz.h"

namespace infalign::text {
namespace {

using Json = nlohmann::json;
using infalign::fuzzing::fuzz_inputs;
using infalign::fuzzing::FuzzCount;
using infalign::fuzzing::goes_through;
using infalign::fuzzing::MemoryFile;
using infalign::fuzzing::Mutator;

constexpr const char* kByteLevel = R"({
  "added_tokens": [{"id": 9, "content": "<e>", "special": true, "lstrip": true, "single_word": true},
                   {"id": 10, "content": "é", "normalized": true, "rstrip": true}],
  "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": " "}]},
  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
    {"type": "Digits", "individual_digits": true},
    {"type": "Split", "pattern": {"Regex": "\\s+(?!\\S)|\\p{L}+|[^\\s]"}, "behavior": "Isolated", "invert": false},
    {"type": "ByteLevel", "add_prefix_space": true, "use_regex": true}]},
  "post_processor": {"type": "Sequence", "processors": [
    {"type": "ByteLevel", "trim_offsets": false},
    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<e>"}}, {"Sequence": {"id": "A"}}],
     "special_tokens": {"<e>": {"id": "<e>", "ids": [9]}}}]},
  "decoder": {"type": "Sequence", "decoders": [{"type": "ByteLevel"}, {"type": "Replace",
    "pattern": {"String": "a"}, "content": "b"}]},
  "model": {"type": "BPE", "ignore_merges": true, "unk_token": "h", "fuse_unk": true,
    "vocab": {"h": 0, "e": 1, "l": 2, "he": 3, "Ġ": 4, "Ġhe": 5, "ll": 6}, "merges": ["h e", ["Ġ", "he"], "l l"]}})";

constexpr const char* kSentencePiece = R"({
  "normalizer": {"type": "Replace", "pattern": {"Regex": " +"}, "content": " "},
  "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true},
  "decoder": {"type": "Sequence", "decoders": [{"type": "Metaspace", "replacement": "▁"}, {"type": "ByteFallback"},
    {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 1}]},
  "model": {"type": "BPE", "byte_fallback": true, "dropout": null,
    "vocab": {"h": 0, "e": 1, "▁": 2, "he": 3, "<0xC3>": 4, "<0xA9>": 5, "▁he": 6}, "merges": ["h e", "▁ he"]}})";

constexpr const char* kUnigram = R"({
  "normalizer": {"type": "Sequence", "normalizers": [
    {"type": "Precompiled", "precompiled_charsmap": null}, {"type": "Strip", "strip_left": true, "strip_right": false},
    {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]},
  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}]},
  "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 2], "trim_offsets": true},
  "decoder": {"type": "Metaspace", "replacement": "▁"},
  "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true,
    "vocab": [["<unk>", 0.0], ["</s>", 0], ["<s>", 0], ["▁", -2.5], ["h", -3.5], ["he", -4], ["▁he", -5e0],
              ["<0xC3>", -9.5], ["<0xA9>", -9.5]]}})";

constexpr const char* kWordPiece = R"({
  "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
    "lowercase": true},
  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "BertPreTokenizer"},
    {"type": "Punctuation", "behavior": "Contiguous"}]},
  "post_processor": {"type": "BertProcessing", "sep": ["#", 1], "cls": ["?", 0]},
  "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
  "model": {"type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": "##", "max_input_chars_per_word": 20,
    "vocab": {"?": 0, "#": 1, "he": 2, "##h": 3, "##he": 4, "s": 5, "日": 6, "##aid": 7, "é": 8}}})";

/// kUnigram with the compiled table of the golden cases.
std::string unigram_with_table() {
  const auto cases =
      json_content(std::filesystem::path(INFALIGN_SOURCE_DIR) / "tests/core/text/tokenizer_cases.json");
  auto json = Json::parse(kUnigram);
  json["normalizer"]["normalizers"][0] = cases.at(2)["tokenizer"]["normalizer"]["normalizers"][0];
  return json.dump(-1, ' ', false);
}

void use_tokenizer(const std::string& json) {
  const auto tokenizer = Tokenizer::parse(json, "fuzz");
  for (const char* text : {"", "he said: hello  1234 <e> é e\u0301 日\n", " hehe"}) {
    const auto ids = tokenizer.encode(text);
    EXPECT_FALSE(find_invalid_utf8(tokenizer.decode(ids, false)) != std::string_view::npos);
    tokenizer.decode_continuation(tokenizer.encode_continuation(text));
  }
}

TEST(Fuzz, DamagedTokenizersEndInInputErrors) {
  Mutator mutator(1);
  FuzzCount count;
  const std::vector<std::string> originals = {kByteLevel, kSentencePiece, kWordPiece, unigram_with_table()};
  for (const auto& original : originals) ASSERT_TRUE(goes_through([&] { use_tokenizer(original); }));
  for (int i = 0; i < fuzz_inputs(); ++i) {
    const std::string& original = originals[static_cast<std::size_t>(i) / 2 % originals.size()];
    const std::string json =
        i % 2 ? mutator.bytes(original) : mutator.values(Json::parse(original)).dump(-1, ' ', false);
    SCOPED_TRACE(json);
    ASSERT_NO_THROW(count.add(goes_through([&] { use_tokenizer(json); })));
  }
  count.expect_both();
}

const std::string kRecords =
    "{\"prompt\": \"Once é\", \"chosen\": \"a\", \"rejected\": \"b\"}\r\n"
    "{\"chosen\": \"\\n\\nHuman: x\\n\\nAssistant: y\", \"rejected\": \"\\n\\nHuman: x\\n\\nAssistant: "
    "z\"}\n\n"
    "{\"prompt\": [{\"role\": \"user\", \"content\": \"x\"}], \"chosen\": [{\"role\": \"assistant\", "
    "\"content\": "
    "\"y\"}], \"rejected\": [{\"role\": \"assistant\", \"content\": \"z\"}]}\n"
    "\"\\ud83d\\ude00\"\n";

TEST(Fuzz, DamagedRecordsEndInInputErrors) {
  const MemoryFile file;
  const auto chat = [] { return ChatTemplate::load("/nonexistent", "chatml"); };
  Mutator mutator(2);
  FuzzCount count;
  std::vector<std::string> lines;
  for (std::size_t begin = 0, end = 0; begin < kRecords.size(); begin = end) {
    end = kRecords.find('\n', begin) + 1;
    lines.push_back(kRecords.substr(begin, end - begin));
  }
  for (int i = 0; i < fuzz_inputs(); ++i) {
    const std::string damaged = mutator.bytes(i % 3 ? lines[mutator.below(lines.size())] : kRecords);
    file.write(damaged);
    SCOPED_TRACE(damaged);
    ASSERT_NO_THROW(count.add(goes_through([&] { read_prompts(file.path(), chat); })));
    ASSERT_NO_THROW(count.add(goes_through([&] { read_preferences(file.path(), chat); })));
  }
  count.expect_both();
}

std::string gzipped(std::string content) {
  std::string result(content.size() + 100, '\0');
  z_stream stream{};
  if (deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    throw std::runtime_error("deflateInit2 failed");
  stream.next_in = reinterpret_cast<Bytef*>(content.data());
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(result.data());
  stream.avail_out = static_cast<uInt>(result.size());
  deflate(&stream, Z_FINISH);
  result.resize(stream.total_out);
  deflateEnd(&stream);
  return result;
}

/// The checksum is kept or made anew, as only a part of the damage should be found by it.
TEST(Fuzz, DamagedGzipEndsInInputErrors) {
  const MemoryFile file;
  Mutator mutator(3);
  FuzzCount count;
  const std::string whole = gzipped(kRecords + kRecords) + gzipped("") + gzipped(kRecords);
  for (int i = 0; i < fuzz_inputs(); ++i) {
    const std::string damaged = i % 2 ? mutator.bytes(whole) : gzipped(mutator.bytes(kRecords)) + whole;
    file.write(damaged);
    ASSERT_NO_THROW(count.add(goes_through([&] { read_text(file.path()); })));
  }
  count.expect_both();
}

constexpr const char* kTemplate = R"({%- set ns = namespace(found=false, n=-1) -%}
{% macro show(text, upper=true) %}{{ text | upper if upper else text[1:-1] }}{% endmacro %}
{# comment -#}
{% for message in messages if message.role != 'tool' %}
  {%- if loop.first and message['role'] == 'system' %}{% set ns.found = true %}{{- show(message.content) }}
  {%- elif message.content is string and 'x' not in message.content %}{% continue %}
  {%- else %}{{ loop.index0 % 2 ~ ' ' ~ message.content.split('e')[-1].strip('ab') | trim | replace('a', 'bb') }}{% endif %}
  {%- set block %}{{ [1, 2.5, none, {'a': (1,)}] | tojson(indent=2) }}{% endset %}{{ block }}
{%- else %}nothing{% endfor %}
{% generation %}{{ messages | map(attribute='role') | join(', ') }}{% endgeneration %}
{% raw %}{{ }}{% endraw %}{{ range(3) | list | length ** 2 // 3 }}{{ messages | selectattr('role', 'equalto', 'user') | list | tojson }}
{{ raise_exception('end') if ns.found and not add_generation_prompt }}{{ messages[0].items() | list | string | indent(2) }})";

TEST(Fuzz, DamagedTemplatesEndInInputErrors) {
  const std::vector<std::string> words = {"{%",
                                          "%}",
                                          "{{",
                                          "}}",
                                          "{%-",
                                          "-%}",
                                          "{#",
                                          "#}",
                                          "endfor",
                                          "endif",
                                          "|",
                                          " is ",
                                          " not ",
                                          " in ",
                                          "loop",
                                          "ns",
                                          "[::-1]",
                                          "(",
                                          ")",
                                          "messages",
                                          " ** 9",
                                          " * 99999999",
                                          ".items()",
                                          "{% if x %}",
                                          "{% for a, b in messages %}",
                                          "show(show)",
                                          "~ns.n",
                                          "9223372036854775807",
                                          "\\u00",
                                          "1e999",
                                          "| sort",
                                          "| dictsort",
                                          "| reverse",
                                          "| first",
                                          "| last",
                                          "| float",
                                          "| int",
                                          ".replace('', 'x')",
                                          "range(-9, 99999999)",
                                          "{% set ns.n = [ns.n, ns.n] %}",
                                          "{% break %}",
                                          "{% raw %}",
                                          "{% macro f(a=f) %}",
                                          "{% endmacro %}",
                                          "é",
                                          "\xff"};
  const auto messages = nlohmann::ordered_json::parse(
      R"([{"role": "system", "content": "Be brief"}, {"role": "user", "content": "a xé b", "n": [1, {"k": null}]}])");
  Mutator mutator(4);
  FuzzCount count;
  for (int i = 0; i < fuzz_inputs(); ++i) {
    const std::string source = mutator.bytes(kTemplate, words);
    SCOPED_TRACE(source);
    const auto render = [&] {
      const auto text = ChatTemplate::parse(source, "fuzz").render(messages, i % 2 == 0);
      EXPECT_EQ(find_invalid_utf8(text), std::string_view::npos);
    };
    ASSERT_NO_THROW(count.add(goes_through(render)));
  }
  count.expect_both();
}

}  // namespace
}  // namespace infalign::text
