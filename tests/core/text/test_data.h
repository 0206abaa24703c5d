// Where the tests of this room find data: public test inputs, which are not part of the repository.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace infalign::text {

inline std::filesystem::path environment_path(const char* variable, const std::filesystem::path& fallback) {
  const char* value = std::getenv(variable);
  return value ? std::filesystem::path(value) : fallback;
}

/// Test inputs that are used in place; tests skip where they are absent.
inline std::filesystem::path data_folder() {
  return environment_path("INFALIGN_DATA", std::filesystem::path(INFALIGN_SOURCE_DIR) / "../shared/data");
}

inline std::filesystem::path tokenizers_folder() {
  return environment_path("INFALIGN_TOKENIZERS", data_folder() / "hf-tokenizers");
}

inline std::string file_content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline nlohmann::json json_content(const std::filesystem::path& path) {
  return nlohmann::json::parse(file_content(path));
}

/// A folder for the files that one test writes; it is gone when the test is.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "infalign_text_XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  std::filesystem::path write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace infalign::text

#define SKIP_WITHOUT(path) \
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "test data is absent: " << (path)
