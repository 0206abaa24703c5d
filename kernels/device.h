// The one place that knows what a device, a stream and a buffer are. Every operation of `kernels/` takes the
// stream it is to run on; today every stream is the CPU's, where work is done when the call returns.
// Memory comes from `Buffer`, aligned for the widest vectors.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
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

/// Owned device memory for `size()` values of T, zero at first; move-only.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) : size_(size) {
    if (size == 0) return;
    data_.reset(static_cast<T*>(::operator new(size * sizeof(T), kAlignment)));
    std::memset(static_cast<void*>(data_.get()), 0, size * sizeof(T));
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  std::span<T> span() { return {data_.get(), size_}; }
  std::span<const T> span() const { return {data_.get(), size_}; }
  T& operator[](std::size_t i) { return data_.get()[i]; }
  const T& operator[](std::size_t i) const { return data_.get()[i]; }

  /// Makes room for at least `size` values; what was there is lost when the buffer has to grow.
  void reserve(std::size_t size) {
    if (size > size_) *this = Buffer(size);
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(T* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<T[], Free> data_;
  std::size_t size_ = 0;
};

}  // namespace infalign::kernels
