// Memory of the CPU. Large buffers are mappings of their own: they come zeroed from the system, only pages
// that are touched take memory, and a buffer that grows leaves no hole in the heap that is too small for the
// next.
#include "kernels/device.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace infalign::kernels {
namespace {

constexpr std::align_val_t kAlignment{64};
#ifdef INFALIGN_SANITIZED  // the address sanitizer sees the bounds of what comes from the heap
constexpr bool kMap = false;
#else
constexpr bool kMap = true;
#endif
constexpr std::size_t kSmallestMapping = std::size_t{1} << 18;

bool is_mapping(std::size_t bytes) { return kMap && bytes >= kSmallestMapping; }

}  // namespace

void* allocate_zeroed(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  if (is_mapping(bytes)) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return memory;
  }
  void* memory = ::operator new(bytes, kAlignment);
  std::memset(memory, 0, bytes);
  return memory;
}

void release(void* memory, std::size_t bytes) noexcept {
  if (memory == nullptr) return;
  if (is_mapping(bytes))
    munmap(memory, bytes);
  else
    ::operator delete(memory, kAlignment);
}

}  // namespace infalign::kernels
