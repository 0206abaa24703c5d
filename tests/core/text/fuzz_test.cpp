// Damaged files must end in an InputError or be read: never in another exception, let alone a crash.
// Mutations come from a fixed seed, and are of two kinds: of bytes, which mostly break the JSON, and of the
// JSON's values, which get further. Under the address and undefined-behaviour sanitizers this test says more.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "core/error.h"
#include "core/text/records.h"
#include "core/text/test_data.h"
#include "core/text/tokenizer.h"

namespace infalign::text {
namespace {

using Json = nlohmann::json;

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

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }

  /// One or two bytes changed, removed or doubled.
  std::string bytes(std::string text) {
    for (std::size_t n = 1 + below(2); n > 0 && !text.empty(); --n) {
      const std::size_t at = below(text.size());
      switch (below(4)) {
        case 0:
          text[at] = static_cast<char>(below(256));
          break;
        case 1:
          text[at] = "\"\\{}[]:,0-9.eunts"[below(17)];
          break;
        case 2:
          text.erase(at, 1 + below(8));
          break;
        default:
          text.insert(at, text.substr(below(text.size()), 1 + below(16)));
      }
    }
    return text;
  }

  /// A value replaced, or two, by another kind of value, or by a value from elsewhere in the file.
  Json values(Json json) {
    for (std::size_t n = 1 + below(2); n > 0; --n) {
      Json replacement = below(2) ? odd_value() : *node(json);
      *node(json) = std::move(replacement);
    }
    return json;
  }

 private:
  Json* node(Json& json) {
    Json* here = &json;
    while (here->is_structured() && !here->empty() && below(5) > 0)
      here = &*std::next(here->begin(), static_cast<std::ptrdiff_t>(below(here->size())));
    return here;
  }

  Json odd_value() {
    static const std::vector<Json> kOdd = {nullptr,
                                           true,
                                           0,
                                           -1,
                                           7,
                                           1LL << 31,
                                           1LL << 62,
                                           ~0ULL,
                                           0.5,
                                           "",
                                           "a",
                                           "▁",
                                           "h e",
                                           "é",
                                           "(",
                                           "\\s*(?=a)",
                                           "\\Kh",
                                           "(?<=h)e|$",
                                           Json::array(),
                                           Json::object(),
                                           {{"Regex", "(h|e)*"}},
                                           {{"String", ""}},
                                           "Sequence",
                                           "Removed",
                                           "Metaspace"};
    return kOdd[below(kOdd.size())];
  }

  std::mt19937 random_;
};

/// A file without a disk, which would be slower than all that is tested here.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(memfd_create("records", 0)) {
    if (descriptor_ < 0) throw std::runtime_error("memfd_create failed");
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

  void write(const std::string& content) const {
    if (ftruncate(descriptor_, 0) != 0 || pwrite(descriptor_, content.data(), content.size(), 0) < 0)
      throw std::runtime_error("memory file: cannot be written");
  }

 private:
  int descriptor_;
};

/// Runs `use`; true if it went through, false if it ended in an InputError. Anything else is left to fail the
/// test.
bool goes_through(const std::function<void()>& use) {
  try {
    use();
    return true;
  } catch (const InputError&) {
    return false;
  }
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
  int read = 0;
  int refused = 0;
  for (int i = 0; i < 2000; ++i)
    for (const char* original : {kByteLevel, kSentencePiece}) {
      const std::string json =
          i % 2 ? mutator.bytes(original) : mutator.values(Json::parse(original)).dump(-1, ' ', false);
      SCOPED_TRACE(json);
      ASSERT_NO_THROW((goes_through([&] { use_tokenizer(json); }) ? read : refused)++);
    }
  EXPECT_GT(read, 100);  // both happen: the mutations are neither harmless nor hopeless
  EXPECT_GT(refused, 100);
}

TEST(Fuzz, DamagedRecordsEndInInputErrors) {
  const std::string records =
      "{\"prompt\": \"Once é\", \"chosen\": \"a\", \"rejected\": \"b\"}\r\n"
      "{\"chosen\": \"\\n\\nHuman: x\\n\\nAssistant: y\", \"rejected\": \"\\n\\nHuman: x\\n\\nAssistant: "
      "z\"}\n\n"
      "\"\\ud83d\\ude00\"\n";
  const MemoryFile file;
  Mutator mutator(2);
  int read = 0;
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    const std::string damaged =
        mutator.bytes(records.substr(0, i % 3 ? records.find('\n') + 1 : records.size()));
    file.write(damaged);
    SCOPED_TRACE(damaged);
    ASSERT_NO_THROW((goes_through([&] { read_prompts(file.path()); }) ? read : refused)++);
    ASSERT_NO_THROW((goes_through([&] { read_preferences(file.path()); }) ? read : refused)++);
  }
  EXPECT_GT(read, 100);
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace infalign::text
