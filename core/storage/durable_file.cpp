#include "core/storage/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "core/storage/durable.h"

namespace infalign::storage {

std::string system_failure(const std::filesystem::path& path, const std::string& what, int error) {
  return path.string() + ": cannot " + what + ": " + std::generic_category().message(error);
}

DurableFile::DurableFile(std::filesystem::path path) : path_(std::move(path)), temporary_(path_) {
  temporary_ += ".tmp";
  descriptor_ = open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw std::runtime_error(system_failure(path_, "create the file", errno));
}

void DurableFile::append(std::span<const std::byte> bytes) {
  write_at(end_, bytes);
  throw_if_failed();
}

void DurableFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) noexcept {
  end_ = std::max(end_, offset + bytes.size());
  while (failure_ == 0 && !bytes.empty()) {
    const ssize_t written = pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR)
      continue;  // a polite stop is asked for by a signal; finish the file first
    if (written < 0) {
      failure_ = errno;
    } else if (written == 0) {
      failure_ = EIO;
    } else {
      offset += static_cast<std::uint64_t>(written);
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }
}

void DurableFile::resize(std::uint64_t size) noexcept {
  end_ = size;
  if (failure_ == 0 && ftruncate(descriptor_, static_cast<off_t>(size)) != 0) failure_ = errno;
}

void DurableFile::read_at(std::uint64_t offset, std::span<std::byte> bytes) const noexcept {
  while (!bytes.empty()) {
    const ssize_t got = pread(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    offset += static_cast<std::uint64_t>(got);
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
  std::fill(bytes.begin(), bytes.end(), std::byte{0});
}

void DurableFile::throw_if_failed() const {
  if (failure_ != 0) throw std::runtime_error(system_failure(path_, "write", failure_));
}

void DurableFile::commit() {
  throw_if_failed();
  if (fsync(descriptor_) != 0) throw std::runtime_error(system_failure(path_, "flush to disk", errno));
  // A network file system may report a full disk only here.
  if (close(std::exchange(descriptor_, -1)) != 0) {
    failure_ = errno;
    unlink(temporary_.c_str());
    throw_if_failed();
  }
  try {
    rename_durably(temporary_, path_);
  } catch (...) {
    unlink(temporary_.c_str());
    throw;
  }
}

void DurableFile::discard() noexcept {
  if (descriptor_ < 0) return;
  close(std::exchange(descriptor_, -1));
  unlink(temporary_.c_str());
}

}  // namespace infalign::storage
