// Memory of a GPU that other processes of its machine read. Each of them opens it once, by a handle that its
// owner gives, and copies from it on a stream of its own as from memory of its own GPU; the owner does
// nothing for that. When it may be written and when it may be read is for the processes to agree on.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "kernels/device.h"

namespace infalign::kernels {

/// What another process opens such memory by.
using PeerHandle = std::array<std::byte, 64>;

/// Owned, zero at first; move-only. It is not of the stream's pool, and goes at once, so that no other
/// process may have it open then.
class SharedMemory {
 public:
  SharedMemory() = default;
  /// Errors: OutOfMemory; std::runtime_error for the CPU's stream, whose memory other processes do not read.
  SharedMemory(const Stream& on, std::size_t bytes);

  std::span<std::byte> bytes() const { return {data_.get(), size_}; }
  PeerHandle handle() const;
  /// It stays where it is until the process ends.
  void leave() { static_cast<void>(data_.release()); }

 private:
  struct Release {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Release> data_;
  std::size_t size_ = 0;
};

/// Another process's, as long as this lives; move-only.
class OpenedMemory {
 public:
  OpenedMemory() = default;
  /// Errors: std::runtime_error where the GPUs cannot read each other's memory.
  explicit OpenedMemory(const PeerHandle& handle);

  const std::byte* data() const { return data_.get(); }

 private:
  struct Close {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Close> data_;
};

}  // namespace infalign::kernels
