#include "core/storage/durable.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <span>
#include <stdexcept>

#include "core/error.h"
#include "core/storage/durable_file.h"

namespace infalign::storage {
namespace {

std::filesystem::path folder_of(const std::filesystem::path& path) {
  // "a/b/" names the folder b, whose entry stands in a.
  const std::filesystem::path plain = path.has_filename() ? path : path.parent_path();
  return plain.has_parent_path() ? plain.parent_path() : std::filesystem::path(".");
}

/// Hands the content of a file to `take`, piece by piece.
template <typename Take>
void for_each_piece(const std::filesystem::path& path, Take take) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw InputError(system_failure(path, "open", errno));
  std::array<char, 1 << 16> piece;
  ssize_t got = 0;
  int failure = 0;
  do {
    got = read(descriptor, piece.data(), piece.size());
    if (got > 0) take(std::string_view(piece.data(), static_cast<std::size_t>(got)));
    if (got < 0 && errno != EINTR) failure = errno;
  } while (got > 0 || (got < 0 && failure == 0));
  close(descriptor);
  if (failure != 0) throw InputError(system_failure(path, "read", failure));
}

}  // namespace

void write_file_durably(const std::filesystem::path& path, std::string_view content) {
  DurableFile file(path);
  file.append(std::as_bytes(std::span(content)));
  file.commit();
}

void sync_path(const std::filesystem::path& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw std::runtime_error(system_failure(path, "open", errno));
  const int failure = fsync(descriptor) == 0 ? 0 : errno;
  close(descriptor);
  // EINVAL: a file system whose folders cannot be flushed; there is nothing more one could do.
  if (failure != 0 && failure != EINVAL) {
    throw std::runtime_error(system_failure(path, "flush to disk", failure));
  }
}

void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) {
    throw std::runtime_error(system_failure(to, "rename " + from.string() + " to it", errno));
  }
  sync_path(folder_of(to));
}

std::string read_file(const std::filesystem::path& path) {
  std::string content;
  for_each_piece(path, [&](std::string_view piece) { content += piece; });
  return content;
}

Fingerprint& Fingerprint::add(std::string_view bytes) {
  for (const char byte : bytes) state_ = (state_ ^ static_cast<unsigned char>(byte)) * 0x100000001b3ULL;
  return *this;
}

Fingerprint& Fingerprint::add_file(const std::filesystem::path& path) {
  for_each_piece(path, [&](std::string_view piece) { add(piece); });
  return *this;
}

std::string Fingerprint::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[(state_ >> shift) & 15];
  return text;
}

}  // namespace infalign::storage
