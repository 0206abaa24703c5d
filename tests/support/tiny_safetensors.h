// A reader of float32 safetensors files for tests whose room does not link core/storage, and the way to the
// shared test data. Small on purpose: it trusts the file.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace infalign {

struct TinyTensor {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

/// Name -> tensor. Errors: std::runtime_error if the file cannot be read or holds anything but float32.
inline std::map<std::string, TinyTensor> read_safetensors(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::uint64_t header_size = 0;
  file.read(reinterpret_cast<char*>(&header_size), sizeof header_size);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  std::string header(header_size, ' ');
  file.read(header.data(), static_cast<std::streamsize>(header_size));
  const auto data_begin = file.tellg();
  std::map<std::string, TinyTensor> tensors;
  const auto entries = nlohmann::json::parse(header);
  for (const auto& [name, entry] : entries.items()) {
    if (name == "__metadata__") continue;
    if (entry.at("dtype") != "F32") throw std::runtime_error(path.string() + ": " + name + " is not float32");
    TinyTensor& tensor = tensors[name];
    tensor.shape = entry.at("shape").get<std::vector<std::int64_t>>();
    const auto [begin, end] = entry.at("data_offsets").get<std::pair<std::int64_t, std::int64_t>>();
    tensor.values.resize(static_cast<std::size_t>(end - begin) / sizeof(float));
    file.seekg(data_begin + static_cast<std::streamoff>(begin));
    file.read(reinterpret_cast<char*>(tensor.values.data()), end - begin);
    if (!file) throw std::runtime_error(path.string() + ": " + name + " is cut short");
  }
  return tensors;
}

inline nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return nlohmann::json::parse(file);
}

/// The folder of shared test data: $INFALIGN_DATA, or beside the repository. It may not exist.
inline std::filesystem::path data_folder() {
  if (const char* set = std::getenv("INFALIGN_DATA")) return set;
  return std::filesystem::path(INFALIGN_SOURCE_DIR) / ".." / "shared" / "data";
}

}  // namespace infalign
