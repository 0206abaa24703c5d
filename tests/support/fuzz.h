// Damaged inputs for readers of files: bytes changed, removed, doubled, or values of a JSON file replaced by
// others. INFALIGN_FUZZ_INPUTS says how many each test tries; launch/fuzz sets it to a million, under
// sanitizers.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/error.h"

namespace infalign::fuzzing {

/// How many damaged inputs a test tries.
inline int fuzz_inputs() {
  const char* asked = std::getenv("INFALIGN_FUZZ_INPUTS");
  return asked ? std::stoi(asked) : 3000;
}

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }

  /// One or two bytes changed, removed or doubled, or a word put in.
  std::string bytes(std::string text, const std::vector<std::string>& words = {}) {
    for (std::size_t n = 1 + below(2); n > 0 && !text.empty(); --n) {
      const std::size_t at = below(text.size());
      if (!words.empty() && below(3) == 0) {
        text.insert(at, words[below(words.size())]);
        continue;
      }
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
  nlohmann::json values(nlohmann::json json) {
    for (std::size_t n = 1 + below(2); n > 0; --n) {
      nlohmann::json replacement = below(2) ? odd_value() : *node(json);
      *node(json) = std::move(replacement);
    }
    return json;
  }

 private:
  nlohmann::json* node(nlohmann::json& json) {
    nlohmann::json* here = &json;
    while (here->is_structured() && !here->empty() && below(5) > 0)
      here = &*std::next(here->begin(), static_cast<std::ptrdiff_t>(below(here->size())));
    return here;
  }

  nlohmann::json odd_value() {
    static const std::vector<nlohmann::json> kOdd = {nullptr,
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
                                                     nlohmann::json::array(),
                                                     nlohmann::json::object(),
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
inline bool goes_through(const std::function<void()>& use) {
  try {
    use();
    return true;
  } catch (const InputError&) {
    return false;
  }
}

/// How often a reader went through, and how often it refused.
struct FuzzCount {
  int read = 0;
  int refused = 0;

  void add(bool went_through) { ++(went_through ? read : refused); }

  /// Both happened: the damage was neither harmless nor hopeless.
  void expect_both() const {
    EXPECT_GT(read, 100);
    EXPECT_GT(refused, 100);
  }
};

}  // namespace infalign::fuzzing
