// Activations, and their gradients, as operations read and write them: float32, or, on a GPU whose products
// are in bfloat16, that. Operations compute in float32 either way, and round what they store. A CPU's
// activations are float32 always.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <type_traits>

#include "kernels/device.h"
#include "kernels/linear/bfloat16.h"
#include "kernels/precision.h"

namespace infalign::kernels {

/// In what a device stores activations between products of this precision.
constexpr Precision stored_on(Device device, Precision products) {
  return device == Device::kCuda ? products : Precision::kFloat32;
}

constexpr std::int64_t size_of(Precision stored) {
  return stored == Precision::kBfloat16 ? std::int64_t{sizeof(Bfloat16)} : std::int64_t{sizeof(float)};
}

/// A pointer to values that knows their type. Where an operation takes several of these, they are of one type
/// unless it says otherwise.
template <bool kConst>
class BasicValues {
  template <class T>
  using Pointer = std::conditional_t<kConst, const T*, T*>;

 public:
  BasicValues(std::nullptr_t = nullptr) {}                                                 // NOLINT
  BasicValues(Pointer<float> values) : data_(values) {}                                    // NOLINT
  BasicValues(Pointer<Bfloat16> values) : data_(values), stored_(Precision::kBfloat16) {}  // NOLINT
  template <bool kOther>
  requires(kConst && !kOther) BasicValues(const BasicValues<kOther>& values)  // NOLINT
      : data_(values.data()), stored_(values.stored()) {}

  Pointer<void> data() const { return data_; }
  Precision stored() const { return stored_; }

  /// Errors: std::logic_error where they are of another type.
  template <class T>
  Pointer<T> as() const {
    if (stored_ != (std::is_same_v<T, float> ? Precision::kFloat32 : Precision::kBfloat16))
      throw std::logic_error(stored_ == Precision::kFloat32 ? "values in float32 taken for bfloat16"
                                                            : "values in bfloat16 taken for float32");
    return static_cast<Pointer<T>>(data_);
  }
  Pointer<float> floats() const { return as<float>(); }

  /// Those from number n on.
  BasicValues operator+(std::int64_t n) const {
    BasicValues from = *this;
    from.data_ = static_cast<Pointer<char>>(data_) + n * size_of(stored_);
    return from;
  }

 private:
  Pointer<void> data_ = nullptr;
  Precision stored_ = Precision::kFloat32;
};
using Values = BasicValues<false>;
using ConstValues = BasicValues<true>;

/// Owned memory for values.
class ValuesBuffer {
 public:
  /// Makes room for at least `size` values of this type; what was there may be lost.
  void reserve(const Stream& on, std::size_t size, Precision stored) {
    stored_ = stored;
    if (stored == Precision::kBfloat16)
      narrow_.reserve(on, size);
    else
      wide_.reserve(on, size);
  }
  Values values() {
    if (stored_ == Precision::kBfloat16) return narrow_.data();
    return wide_.data();
  }
  ConstValues values() const {
    if (stored_ == Precision::kBfloat16) return narrow_.data();
    return wide_.data();
  }

 private:
  Precision stored_ = Precision::kFloat32;
  Buffer<float> wide_;
  Buffer<Bfloat16> narrow_;
};

// For lists of buffers of either kind: room in one, and the bytes of a value in it, where values are `stored`
// so and all else is float32.
inline void reserve(const Stream& on, std::size_t size, Precision stored, ValuesBuffer& buffer) {
  buffer.reserve(on, size, stored);
}
inline void reserve(const Stream& on, std::size_t size, Precision, Buffer<float>& buffer) {
  buffer.reserve(on, size);
}
constexpr std::int64_t size_in(const ValuesBuffer&, Precision stored) { return size_of(stored); }
constexpr std::int64_t size_in(const Buffer<float>&, Precision) { return size_of(Precision::kFloat32); }

}  // namespace infalign::kernels
