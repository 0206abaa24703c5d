// A folder with the smallest files a configuration can name, and a configuration that is right; tests change
// one thing in it and look at what is said.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/experiment/experiment.h"
#include "support/scratch_folder.h"

namespace infalign::experiment {

class ExperimentTest : public testing::Test {
 protected:
  void SetUp() override {
    write("model/config.json", "{}");
    write("critic/config.json", "{}");
    write("train.jsonl", "{\"prompt\": \"a\"}\n");
    write("heldout.jsonl", "{\"prompt\": \"b\"}\n");
    write("pairs.jsonl", "");
    write("text.txt", "");
  }
  void write(const std::filesystem::path& name, const std::string& text) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }

  Experiment load(const std::string& yaml, const std::vector<std::string>& overrides = {}) const {
    write("run.yaml", yaml);
    return load_experiment(file(), overrides);
  }

  /// What load_experiment refuses with, the file's folder cut away; "" if it does not refuse.
  std::string refusal(const std::string& yaml, const std::vector<std::string>& overrides = {}) const {
    try {
      load(yaml, overrides);
    } catch (const ConfigurationError& error) {
      std::string text = error.what();
      const std::string prefix = folder_.string() + "/";
      for (std::size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix)) {
        text.erase(at, prefix.size());
      }
      return text;
    }
    return "";
  }

  /// Lines 1 to 14 of every test's file.
  static std::string good(const std::string& more = "") {
    return "name: test\n"                                 // 1
           "output: out\n"                                // 2
           "stages: [calibrate, align, evaluate]\n"       // 3
           "model: {reference: model, reward: critic}\n"  // 4
           "prompts:\n"                                   // 5
           "  train: train.jsonl\n"                       // 6
           "  heldout: heldout.jsonl\n"                   // 7
           "inference: {procedure: best_of_n, n: 4}\n"    // 8
           "evaluation:\n"                                // 9
           "  samples_per_prompt: 32\n"                   // 10
           "alignment:\n"                                 // 11
           "  target_kl: 0.5\n"                           // 12
           "  steps: 100\n"                               // 13
           "  prompts_per_step: 32\n" +                   // 14
           more;
  }

  std::filesystem::path file() const { return folder_ / "run.yaml"; }

  const ScratchFolder scratch_;
  const std::filesystem::path folder_ = scratch_.path();
};

/// Sets an environment variable for the length of a scope.
class ScopedVariable {
 public:
  ScopedVariable(std::string name, const char* value) : name_(std::move(name)) {
    if (const char* old = std::getenv(name_.c_str())) old_ = old, was_set_ = true;
    value != nullptr ? setenv(name_.c_str(), value, 1) : unsetenv(name_.c_str());
  }
  ~ScopedVariable() { was_set_ ? setenv(name_.c_str(), old_.c_str(), 1) : unsetenv(name_.c_str()); }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  std::string name_, old_;
  bool was_set_ = false;
};

}  // namespace infalign::experiment
