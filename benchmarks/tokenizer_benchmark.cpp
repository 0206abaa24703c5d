// How fast text becomes tokens and tokens text, in MB of text a second on one core, for each public test
// tokenizer: on English stories, and on megabytes made to be hard (one letter, random letters, spaces,
// marks). The baseline is word_lookup: the same stories cut at spaces and each word looked up in a
// std::unordered_map, which is about the least that any tokenizer of words could do; `of_word_lookup` is the
// speed as a fraction of it.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <unordered_map>

#include "core/text/tokenizer.h"

namespace {

using infalign::text::Tokenizer;

std::filesystem::path data_folder() {
  const char* folder = std::getenv("INFALIGN_DATA");
  return folder ? std::filesystem::path(folder)
                : std::filesystem::path(INFALIGN_SOURCE_DIR) / "../shared/data";
}

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::map<std::string, std::string> hard_texts() {
  constexpr std::size_t kSize = 1'000'000;
  std::mt19937 random(1);
  std::string letters(kSize, 'a');
  for (char& letter : letters) letter = static_cast<char>('a' + random() % 26);
  std::string alternating;
  while (alternating.size() < kSize) alternating += "ab";
  std::string marks;
  while (marks.size() < kSize) marks += marks.size() % 4 ? "\u0301" : "\u0323";
  return {{"one_letter", std::string(kSize, 'a')},
          {"alternating_letters", alternating},
          {"random_letters", letters},
          {"spaces", std::string(kSize, ' ')},
          {"newlines", std::string(kSize, '\n')},
          {"combining_marks", marks}};
}

std::size_t look_up_words(const std::string& text, const std::unordered_map<std::string, int>& ids) {
  std::size_t sum = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    sum += static_cast<std::size_t>(ids.find(text.substr(begin, end - begin))->second);
    begin = end + 1;
  }
  return sum;
}

/// Bytes a second of CPU time, the best of ten.
double word_lookup(const std::string& text) {
  std::unordered_map<std::string, int> ids;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    ids.emplace(text.substr(begin, end - begin), static_cast<int>(ids.size()));
    begin = end + 1;
  }
  double best = 0;
  for (int i = 0; i < 10; ++i) {
    const std::clock_t start = std::clock();
    benchmark::DoNotOptimize(look_up_words(text, ids));
    best = std::max(
        best, static_cast<double>(text.size()) * CLOCKS_PER_SEC / static_cast<double>(std::clock() - start));
  }
  return best;
}

void report(benchmark::State& state, std::size_t text_bytes, double baseline) {
  const auto bytes = static_cast<double>(state.iterations()) * static_cast<double>(text_bytes);
  state.counters["MB/s"] = benchmark::Counter(bytes / 1e6, benchmark::Counter::kIsRate);
  state.counters["of_word_lookup"] = benchmark::Counter(bytes / baseline, benchmark::Counter::kIsRate);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const std::string stories = content(data_folder() / "tinystories/tiny_stories_944k.txt");
  const auto folders = data_folder() / "hf-tokenizers";
  if (stories.empty() || !std::filesystem::exists(folders)) {
    std::cerr << "the public test data is not at " << data_folder() << " (set INFALIGN_DATA)\n";
    return 1;
  }
  const double baseline = word_lookup(stories);
  std::map<std::string, std::string> texts = hard_texts();
  texts["english"] = stories;

  std::map<std::string, Tokenizer> tokenizers;
  for (const auto& folder : std::filesystem::directory_iterator(folders))
    if (std::filesystem::exists(folder.path() / "tokenizer.json"))
      tokenizers.emplace(folder.path().filename().string(), Tokenizer::load(folder.path()));

  for (const auto& [name, tokenizer] : tokenizers) {
    for (const auto& [kind, text] : texts)
      benchmark::RegisterBenchmark(("encode/" + name + "/" + kind).c_str(), [&](benchmark::State& state) {
        for (auto iteration : state) benchmark::DoNotOptimize(tokenizer.encode(text));
        report(state, text.size(), baseline);
      });
    benchmark::RegisterBenchmark(("decode/" + name + "/english").c_str(), [&](benchmark::State& state) {
      const auto ids = tokenizer.encode(stories);
      for (auto iteration : state) benchmark::DoNotOptimize(tokenizer.decode(ids));
      report(state, stories.size(), baseline);
    });
  }
  benchmark::RunSpecifiedBenchmarks();
}
