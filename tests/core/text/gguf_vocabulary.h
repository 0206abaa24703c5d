// The vocabulary in a GGUF file, as far as the tests of published tokenizers need it.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace infalign::text {

struct GgufVocabulary {
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<std::int32_t> types;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  std::vector<std::string> merges;
};

class GgufReader {
 public:
  explicit GgufReader(std::string_view bytes) : rest_(bytes) {}

  GgufVocabulary read() {
    if (take(4) != "GGUF" || number<std::uint32_t>() != 3)
      throw std::runtime_error("not a GGUF file of version 3");
    number<std::uint64_t>();  // tensors
    GgufVocabulary vocabulary;
    for (auto keys = number<std::uint64_t>(); keys > 0; --keys) {
      const std::string key = string();
      const auto type = number<std::uint32_t>();
      if (type != kArray) {
        skip(type);
        continue;
      }
      const auto element = number<std::uint32_t>();
      for (auto count = number<std::uint64_t>(); count > 0; --count) {
        if (key == "tokenizer.ggml.tokens") {
          vocabulary.tokens.push_back(string());
        } else if (key == "tokenizer.ggml.merges") {
          vocabulary.merges.push_back(string());
        } else if (key == "tokenizer.ggml.scores") {
          vocabulary.scores.push_back(number<float>());
        } else if (key == "tokenizer.ggml.token_type") {
          vocabulary.types.push_back(number<std::int32_t>());
        } else {
          skip(element);
        }
      }
    }
    return vocabulary;
  }

 private:
  static constexpr std::uint32_t kString = 8;
  static constexpr std::uint32_t kArray = 9;

  std::string_view take(std::size_t size) {
    if (size > rest_.size()) throw std::runtime_error("GGUF file ends early");
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  template <class Number>
  Number number() {
    Number value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  std::string string() { return std::string(take(number<std::uint64_t>())); }

  void skip(std::uint32_t type) {
    constexpr std::size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == kString) {
      string();
    } else {
      take(kSizes[type]);
    }
  }

  std::string_view rest_;
};

}  // namespace infalign::text
