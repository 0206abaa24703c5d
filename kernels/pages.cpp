#include "kernels/pages.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>
#include <vector>

namespace infalign::kernels {
namespace {

std::size_t page_size() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

std::uintptr_t address(const std::byte* at) { return reinterpret_cast<std::uintptr_t>(at); }

/// What a system call returned, unless that is its word for failure.
int succeeded(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

}  // namespace

bool has_own_pages(std::size_t bytes) {
#ifdef INFALIGN_SANITIZED  // the address sanitizer sees the bounds of what comes from the heap
  static_cast<void>(bytes);
  return false;
#else
  constexpr std::size_t kSmallestMapping = std::size_t{1} << 18;
  return bytes >= kSmallestMapping;
#endif
}

void give_back(std::span<std::byte> bytes) {
  const std::size_t page = page_size();
  const std::size_t before = (page - address(bytes.data()) % page) % page;  // to the first whole page
  if (bytes.size() >= before + page) {
    const std::size_t whole = (bytes.size() - before) / page * page;
    // Of private anonymous memory, which all of ours is, such pages come back as zeros.
    if (madvise(bytes.data() + before, whole, MADV_DONTNEED) == 0) {
      std::memset(bytes.data(), 0, before);
      bytes = bytes.subspan(before + whole);
    }
  }
  if (!bytes.empty()) std::memset(bytes.data(), 0, bytes.size());
}

std::int64_t resident_bytes(std::span<const std::byte> bytes) {
  if (bytes.empty()) return 0;
  const std::size_t page = page_size();
  const std::size_t into_page = address(bytes.data()) % page;
  const std::size_t pages = (into_page + bytes.size() + page - 1) / page;
  std::vector<unsigned char> in_memory(pages);
  auto* first = const_cast<std::byte*>(bytes.data()) - into_page;  // mincore only looks
  if (mincore(first, pages * page, in_memory.data()) != 0) return 0;
  std::int64_t resident = 0;
  for (const unsigned char state : in_memory) resident += state & 1;
  return resident * static_cast<std::int64_t>(page);
}

SharedPages::SharedPages(int file, std::size_t bytes)
    : file_(new int(file),
            [](const int* opened) {
              ::close(*opened);
              delete opened;
            }),
      bytes_(bytes) {}

SharedPages::SharedPages(std::size_t bytes)
    : SharedPages(succeeded(memfd_create("infalign", MFD_CLOEXEC), "memory for several processes"), bytes) {
  succeeded(ftruncate(*file_, static_cast<off_t>(bytes)), "memory for several processes");
}

SharedPages::SharedPages(const Name& name)
    : SharedPages(
          succeeded(
              ::open(("/proc/" + std::to_string(name.process) + "/fd/" + std::to_string(name.file)).c_str(),
                     O_RDWR | O_CLOEXEC),
              "memory of another process"),
          static_cast<std::size_t>(name.bytes)) {
  if (this->name().device != name.device || this->name().inode != name.inode)
    throw std::system_error(ESTALE, std::generic_category(), "memory of another process");
}

SharedPages::Name SharedPages::name() const {
  struct stat status {};
  succeeded(fstat(*file_, &status), "memory for several processes");
  return {.process = getpid(),
          .file = *file_,
          .bytes = static_cast<std::int64_t>(bytes_),
          .device = status.st_dev,
          .inode = status.st_ino};
}

void SharedPages::put_in_place_of(std::span<std::byte> memory) const {
  const void* const there =
      mmap(memory.data(), bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, *file_, 0);
  succeeded(there == MAP_FAILED ? -1 : 0, "memory for several processes");
}

void make_read_only(std::span<std::byte> memory) {
  succeeded(mprotect(memory.data(), memory.size(), PROT_READ), "memory to be read only");
}

}  // namespace infalign::kernels
