// Memory for the length of one operation, from the stream's pool, not zeroed.
#pragma once

#include "kernels/cuda/operations.h"

namespace infalign::kernels::cuda {

/// Room for a number of T. It is given back in the order of the stream, so it may be destroyed as soon as the
/// work that uses it is queued.
template <class T>
class Scratch {
 public:
  Scratch(const Stream& on, std::int64_t size)
      : on_(on),
        data_(size == 0 ? nullptr
                        : static_cast<T*>(
                              on_cuda().allocate(on.queue(), static_cast<std::size_t>(size) * sizeof(T)))) {}
  ~Scratch() {
    if (data_ != nullptr) on_cuda().release(on_.queue(), data_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() const { return data_; }

 private:
  Stream on_;
  T* data_;
};

}  // namespace infalign::kernels::cuda
