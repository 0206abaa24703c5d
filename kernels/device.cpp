// Memory of the CPU, and the way to a GPU's where there is one. Large buffers of the CPU are mappings of
// their own: they come zeroed from the system, only pages that are touched take memory, and a buffer that
// grows leaves no hole in the heap that is too small for the next.
#include "kernels/device.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

#include "kernels/cuda/operations.h"
#include "kernels/pages.h"
#include "kernels/parallel.h"

namespace infalign::kernels {
namespace {

constexpr std::align_val_t kAlignment{64};

}  // namespace

void* allocate_zeroed(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  if (has_own_pages(bytes)) {
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
  if (has_own_pages(bytes))
    munmap(memory, bytes);
  else
    ::operator delete(memory, kAlignment);
}

void* allocate_zeroed(const Stream& on, std::size_t bytes) {
  if (on.device() == Device::kCpu) return allocate_zeroed(bytes);
  if (bytes == 0) return nullptr;
  void* memory = on_cuda().allocate(on.queue(), bytes);
  on_cuda().fill_zero(on.queue(), bytes, memory);
  return memory;
}

void release(const Stream& on, void* memory, std::size_t bytes) noexcept {
  if (on.device() == Device::kCpu) return release(memory, bytes);
  if (memory != nullptr) on_cuda().release(on.queue(), memory);
}

namespace internal {

void* allocate_pinned(const Stream& on, std::size_t bytes) {
  if (on.device() == Device::kCpu) return allocate_zeroed(bytes);
  return bytes == 0 ? nullptr : on_cuda().allocate_pinned(bytes);
}

void release_pinned(const Stream& on, void* memory, std::size_t bytes) noexcept {
  if (on.device() == Device::kCpu) return release(memory, bytes);
  if (memory != nullptr) on_cuda().release_pinned(memory);
}

void copy_bytes(const Stream& on, std::size_t bytes, const void* from, void* to) {
  if (bytes == 0) return;
  if (on.device() == Device::kCuda) return on_cuda().copy(on.queue(), bytes, from, to);
  std::memmove(to, from, bytes);
}

void zero_bytes(const Stream& on, std::size_t bytes, void* to) {
  if (bytes == 0) return;
  if (on.device() == Device::kCuda) return on_cuda().fill_zero(on.queue(), bytes, to);
  constexpr std::int64_t kGrain = 1 << 16;
  parallel_for(static_cast<std::int64_t>(bytes), kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::memset(static_cast<char*>(to) + begin, 0, static_cast<std::size_t>(end - begin));
  });
}

}  // namespace internal

bool has_cuda() { return cuda_operations() != nullptr; }

int cuda_device_count() {
  const CudaOperations* operations = cuda_operations();
  return operations == nullptr ? 0 : operations->device_count();
}

std::string cuda_device_identity(int index) { return on_cuda().device_identity(index); }

const CudaOperations& on_cuda() {
  const CudaOperations* operations = cuda_operations();
  if (operations == nullptr) throw std::runtime_error("this build has no CUDA back end");
  return *operations;
}

Stream::Stream(Device device, int index) : index_(index) {
  if (device == Device::kCpu) return;
  const CudaOperations& operations = on_cuda();
  queue_ = {operations.open_queue(index), operations.close_queue};
}

Stream Stream::beside() const { return Stream(device(), index_); }

void Stream::synchronise() const {
  if (queue_) on_cuda().synchronise(queue());
}

void Stream::wait(const Event& event) const {
  if (queue_ && event.event_) on_cuda().wait_for_event(queue(), event.event_.get());
}

void Event::record(const Stream& on) {
  if (on.device() == Device::kCpu) return event_.reset();
  const CudaOperations& operations = on_cuda();
  if (!event_) event_ = {operations.create_event(), operations.destroy_event};
  operations.record_event(on.queue(), event_.get());
}

void Event::synchronise() const {
  if (event_) on_cuda().synchronise_event(event_.get());
}

void Recording::begin(const Stream& on) { on_cuda().begin_recording(on.queue()); }

void Recording::abandon(const Stream& on) noexcept { on_cuda().abandon_recording(on.queue()); }

void Recording::end(const Stream& on) {
  const CudaOperations& operations = on_cuda();
  recorded_ = {operations.end_recording(on.queue()), operations.destroy_recording};
}

void Recording::replay(const Stream& on) const {
  if (recorded_) on_cuda().replay(on.queue(), recorded_.get());
}

}  // namespace infalign::kernels
