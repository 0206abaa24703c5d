// The one place that knows what a device, a stream and a buffer are. Every operation of `kernels/` takes the
// stream it is to run on; today every stream is the CPU's, where work is done when the call returns.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

namespace infalign::kernels {

enum class Device { kCpu, kCuda };

/// An ordered queue of work on one device.
class Stream {
 public:
  Stream() = default;
  explicit Stream(Device device) : device_(device) {}
  Device device() const { return device_; }

 private:
  Device device_ = Device::kCpu;
};

/// Memory of the CPU, zeroed, aligned for the widest vectors; nullptr for no bytes.
/// Errors: std::bad_alloc.
void* allocate_zeroed(std::size_t bytes);
/// Gives back what allocate_zeroed(bytes) returned.
void release(void* memory, std::size_t bytes) noexcept;

/// Owned device memory for `size()` values of T, zero at first; move-only.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  explicit Buffer(std::size_t size)
      : data_(static_cast<T*>(allocate_zeroed(size * sizeof(T))), Release{size * sizeof(T)}) {}

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  std::size_t size() const { return data_ ? data_.get_deleter().bytes / sizeof(T) : 0; }
  std::span<T> span() { return {data(), size()}; }
  std::span<const T> span() const { return {data(), size()}; }
  T& operator[](std::size_t i) { return data()[i]; }
  const T& operator[](std::size_t i) const { return data()[i]; }

  /// Makes room for at least `size` values; what was there is lost when the buffer has to grow.
  void reserve(std::size_t size) {
    if (size <= this->size()) return;
    *this = Buffer();  // first given back, then asked for again
    *this = Buffer(size);
  }

 private:
  struct Release {
    std::size_t bytes = 0;
    void operator()(T* memory) const { release(memory, bytes); }
  };
  std::unique_ptr<T[], Release> data_;
};

}  // namespace infalign::kernels
