#include "kernels/pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

namespace infalign::kernels {
namespace {

std::size_t page_size() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

std::uintptr_t address(const std::byte* at) { return reinterpret_cast<std::uintptr_t>(at); }

}  // namespace

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

}  // namespace infalign::kernels
