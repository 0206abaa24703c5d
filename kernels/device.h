// The one place that knows what a device, a stream, an event and a buffer are. Every operation of `kernels/`
// takes the stream it is to run on. On the CPU's, work is done when the call returns; on a GPU's it is
// queued, and done in order. Pointers that an operation takes lead to memory of the stream's device; what it
// takes as a span lies in the CPU's memory, and has been read when the call returns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace infalign::kernels {

enum class Device { kCpu, kCuda };

/// Memory ran out: what was asked for, what there is. The message is for the person who configured the run.
class OutOfMemory : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Whether this build has the CUDA back end.
bool has_cuda();
/// GPUs that this process can use: none in a build without CUDA, on a machine without a GPU, or without its
/// driver.
int cuda_device_count();
/// Names such a GPU among those of its machine, the same to every process.
std::string cuda_device_identity(int index);

class Event;

/// An ordered queue of work on one device; copies are the same queue.
class Stream {
 public:
  Stream() = default;  // the CPU's
  /// A new queue on a GPU (`index` counts those of this process), or the CPU's.
  /// Errors: std::runtime_error if there is no such GPU, or this build has no CUDA back end.
  explicit Stream(Device device, int index = 0);

  Device device() const { return queue_ ? Device::kCuda : Device::kCpu; }
  /// Another queue on the same device.
  Stream beside() const;
  /// Returns when all that was queued is done. Errors: std::runtime_error for what went wrong on the GPU.
  void synchronise() const;
  /// What is queued from here on begins after what the event stands for.
  void wait(const Event& event) const;
  /// The GPU's own handle of it; null for the CPU.
  void* queue() const { return queue_.get(); }

 private:
  std::shared_ptr<void> queue_;
  int index_ = 0;
};

/// A place in a GPU's stream; of the CPU's, where nothing is pending, it is empty.
class Event {
 public:
  Event() = default;
  /// Stands for all that has been queued on this stream up to now.
  void record(const Stream& on);
  /// Returns when that is done.
  void synchronise() const;

 private:
  friend class Stream;
  std::shared_ptr<void> event_;
};

/// Work of a GPU's stream, recorded to be queued again as one (a CUDA graph): one call in the place of many.
/// It is the same operations on the same memory, whose contents may have changed.
class Recording {
 public:
  Recording() = default;  // of nothing
  /// Records what `work()` queues on a GPU's stream; none of it is done yet. It may ask for memory and give
  /// it back, but neither wait for the GPU nor copy from or to the CPU.
  template <class Work>
  Recording(const Stream& on, Work&& work) {
    begin(on);
    try {
      work();
    } catch (...) {
      abandon(on);
      throw;
    }
    end(on);
  }
  bool empty() const { return recorded_ == nullptr; }
  /// Queues it on a stream of the same device.
  void replay(const Stream& on) const;

 private:
  static void begin(const Stream& on);
  static void abandon(const Stream& on) noexcept;
  void end(const Stream& on);

  std::shared_ptr<void> recorded_;
};

/// Memory of the CPU, zeroed, aligned for the widest vectors; nullptr for no bytes.
/// Errors: std::bad_alloc.
void* allocate_zeroed(std::size_t bytes);
/// Gives back what allocate_zeroed(bytes) returned.
void release(void* memory, std::size_t bytes) noexcept;

/// The same of the stream's device. On a GPU it comes from a pool that keeps what is given back; asking and
/// giving back are queued like all else, so that memory may be given back before the work that uses it is
/// done. Errors: std::bad_alloc, OutOfMemory.
void* allocate_zeroed(const Stream& on, std::size_t bytes);
void release(const Stream& on, void* memory, std::size_t bytes) noexcept;

namespace internal {
void* allocate_pinned(const Stream& on, std::size_t bytes);
void release_pinned(const Stream& on, void* memory, std::size_t bytes) noexcept;
void copy_bytes(const Stream& on, std::size_t bytes, const void* from, void* to);
void zero_bytes(const Stream& on, std::size_t bytes, void* to);

/// Owned memory for a number of T, by the two functions that get and give it back.
template <class T, void* (*allocate)(const Stream&, std::size_t),
          void (*give_back)(const Stream&, void*, std::size_t) noexcept>
class Memory {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Memory() = default;
  Memory(const Stream& on, std::size_t size)
      : data_(static_cast<T*>(allocate(on, size * sizeof(T))), Release{size * sizeof(T), on}) {}

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  Device device() const { return data_ ? data_.get_deleter().on.device() : Device::kCpu; }
  std::size_t size() const { return data_ ? data_.get_deleter().bytes / sizeof(T) : 0; }
  std::span<T> span() { return {data(), size()}; }
  std::span<const T> span() const { return {data(), size()}; }
  T& operator[](std::size_t i) { return data()[i]; }
  const T& operator[](std::size_t i) const { return data()[i]; }

 private:
  struct Release {
    std::size_t bytes = 0;
    Stream on;
    void operator()(T* memory) const { give_back(on, memory, bytes); }
  };
  std::unique_ptr<T[], Release> data_;
};
}  // namespace internal

/// Owned memory of a stream's device for `size()` values of T, zero at first; move-only. Its values are for
/// the CPU to read only where the device is the CPU.
template <class T>
class Buffer : public internal::Memory<T, allocate_zeroed, release> {
  using Base = internal::Memory<T, allocate_zeroed, release>;

 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) : Base(Stream(), size) {}
  Buffer(const Stream& on, std::size_t size) : Base(on, size) {}

  /// Makes room for at least `size` values; what was there is lost when the buffer has to grow.
  void reserve(std::size_t size) { reserve(Stream(), size); }
  void reserve(const Stream& on, std::size_t size) {
    if (size <= this->size() && on.device() == this->device()) return;
    *this = Buffer();  // first given back, then asked for again
    *this = Buffer(on, size);
  }
};

/// Memory of the CPU that a GPU's stream copies to and from by itself, while the CPU goes on; move-only.
template <class T>
class PinnedBuffer : public internal::Memory<T, internal::allocate_pinned, internal::release_pinned> {
 public:
  using internal::Memory<T, internal::allocate_pinned, internal::release_pinned>::Memory;
};

/// to [n] = from [n], both of the stream's device.
template <class T>
void copy(const Stream& on, std::int64_t n, const T* from, T* to) {
  internal::copy_bytes(on, static_cast<std::size_t>(n) * sizeof(T), from, to);
}

/// x [n] of the stream's device becomes zero.
template <class T>
void fill_zero(const Stream& on, std::int64_t n, T* x) {
  internal::zero_bytes(on, static_cast<std::size_t>(n) * sizeof(T), x);
}

/// The CPU's values to the stream's device, for what is queued after this; `from` may change at once.
template <class T>
void upload(const Stream& on, std::span<const T> from, T* to) {
  internal::copy_bytes(on, from.size_bytes(), from.data(), to);
}

/// The device's values to the CPU; they are there when this returns.
template <class T>
void download(const Stream& on, const T* from, std::span<T> to) {
  internal::copy_bytes(on, to.size_bytes(), from, to.data());
  on.synchronise();
}

/// Has the CPU fill `values`, which are memory of the stream's device: fill(span) gets them, or on a GPU
/// memory that is then brought there.
template <class T, class Fill>
void fill_by_cpu(const Stream& on, std::span<T> values, Fill&& fill) {
  if (on.device() == Device::kCpu) return fill(values);
  Buffer<T> here(values.size());
  fill(here.span());
  upload(on, std::span<const T>(here.span()), values.data());
}

/// The values of a buffer of the CPU in memory of the stream's device: on the CPU the buffer itself.
template <class T>
Buffer<T> moved_to(const Stream& on, Buffer<T> buffer) {
  if (on.device() == buffer.device()) return buffer;
  Buffer<T> there(on, buffer.size());
  upload(on, std::span<const T>(buffer.span()), there.data());
  return there;
}

/// Values of the stream's device where the CPU reads them: on the CPU themselves, of a GPU a copy.
template <class T>
class Downloaded {
 public:
  Downloaded(const Stream& on, std::span<const T> values) : values_(values) {
    if (on.device() == Device::kCpu) return;
    copy_ = Buffer<T>(values.size());
    download(on, values.data(), copy_.span());
    values_ = copy_.span();
  }
  std::span<const T> span() const { return values_; }

 private:
  Buffer<T> copy_;
  std::span<const T> values_;
};

/// Values of the CPU where the stream's device reads them: on the CPU themselves, on a GPU a copy of them.
/// The values must not change as long as this lives.
template <class T>
class Mirror {
 public:
  Mirror() = default;
  Mirror(const Stream& on, std::span<const T> values) : data_(values.data()) {
    if (on.device() == Device::kCpu) return;
    copy_ = Buffer<T>(on, values.size());
    upload(on, values, copy_.data());
    data_ = copy_.data();
  }
  const T* data() const { return data_; }

 private:
  Buffer<T> copy_;
  const T* data_ = nullptr;
};

/// Where the stream's device writes values for the CPU: on the CPU at their place, on a GPU in memory that
/// fetch() brings there.
template <class T>
class Returned {
 public:
  Returned(const Stream& on, std::span<T> values) : on_(on), values_(values) {
    if (on.device() == Device::kCuda) on_device_ = Buffer<T>(on, values.size());
  }
  T* data() { return on_.device() == Device::kCpu ? values_.data() : on_device_.data(); }
  void fetch() {
    if (on_.device() == Device::kCuda) download(on_, static_cast<const T*>(on_device_.data()), values_);
  }

 private:
  Stream on_;
  std::span<T> values_;
  Buffer<T> on_device_;
};

/// The first n values to the CPU; they are there once the stream, or an event after this, is synchronised.
template <class T>
void download_later(const Stream& on, std::int64_t n, const T* from, PinnedBuffer<T>& to) {
  internal::copy_bytes(on, static_cast<std::size_t>(n) * sizeof(T), from, to.data());
}

}  // namespace infalign::kernels
