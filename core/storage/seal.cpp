#include "core/storage/seal.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/storage/durable.h"

namespace infalign::storage {
namespace {

constexpr std::string_view kMark = "\ninfalign fnv1a64 ";
constexpr std::size_t kSealSize = kMark.size() + 16 + 1;
constexpr std::uint64_t kSealPiece = 1 << 16;

/// The seal of `size` bytes that `read(offset, bytes)` gives.
template <typename Read>
std::string seal_of(std::uint64_t size, Read read) {
  Fingerprint fingerprint;
  std::vector<char> piece;
  for (std::uint64_t offset = 0; offset < size; offset += piece.size()) {
    piece.resize(static_cast<std::size_t>(std::min(kSealPiece, size - offset)));
    read(offset, std::span(piece));
    fingerprint.add({piece.data(), piece.size()});
  }
  return std::string(kMark) + fingerprint.hex() + "\n";
}

}  // namespace

void append_seal(DurableFile& file) {
  const std::string seal = seal_of(file.size(), [&](std::uint64_t offset, std::span<char> bytes) {
    file.read_at(offset, std::as_writable_bytes(bytes));
  });
  file.append(std::as_bytes(std::span(seal)));
}

bool check_seal(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::uint64_t size = std::filesystem::file_size(path);
  if (!file || size < kSealSize) return false;
  const std::uint64_t content = size - kSealSize;
  std::string found(kSealSize, '\0');
  file.seekg(static_cast<std::streamoff>(content)).read(found.data(), kSealSize);
  if (!file || !found.starts_with(kMark)) return false;
  file.seekg(0);
  const std::string expected =
      seal_of(content, [&](std::uint64_t, std::span<char> bytes) { file.read(bytes.data(), bytes.size()); });
  if (!file || found != expected) {
    throw InputError(path.string() + ": is damaged: its checksum does not fit");
  }
  return true;
}

}  // namespace infalign::storage
