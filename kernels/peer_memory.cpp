#include "kernels/peer_memory.h"

#include "kernels/cuda/operations.h"

namespace infalign::kernels {

SharedMemory::SharedMemory(const Stream& on, std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  if (on.device() == Device::kCpu)
    throw std::runtime_error("memory of the CPU is not shared with other processes");
  data_.reset(static_cast<std::byte*>(on_cuda().allocate_shared(bytes)));
  fill_zero(on, static_cast<std::int64_t>(bytes), data_.get());
}

PeerHandle SharedMemory::handle() const {
  PeerHandle handle{};
  if (data_) on_cuda().handle_of_shared(data_.get(), handle.data());
  return handle;
}

void SharedMemory::Release::operator()(std::byte* memory) const { on_cuda().release_shared(memory); }

OpenedMemory::OpenedMemory(const PeerHandle& handle)
    : data_(static_cast<std::byte*>(on_cuda().open_shared(handle.data()))) {}

void OpenedMemory::Close::operator()(std::byte* memory) const { on_cuda().close_shared(memory); }

}  // namespace infalign::kernels
