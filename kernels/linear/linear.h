// Products of rows of activations with a weight matrix. A matrix is multiplied with many times between two
// updates, so it is prepared once for that: in the layout that the vendor's library reads fastest, and in
// bfloat16 if products are to be in it. Sums are float32 always.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/linear/products.h"
#include "kernels/precision.h"
#include "kernels/values.h"

namespace infalign::kernels {

/// A weight matrix W [n, k], row-major, prepared for products.
class Linear {
 public:
  /// Prepares W, or prepares it again when it has changed. `weight` [n, k] has to stay where it is as long as
  /// this is used.
  /// Errors: std::runtime_error naming the product if the library refuses it.
  void prepare(const Stream& on, std::int64_t n, std::int64_t k, const float* weight, Precision precision,
               Use use);
  /// The same of a W that is stored in bfloat16 and never trained. Where products are in float32 it is
  /// widened a megabyte at a time, as it is read.
  void prepare(const Stream& on, std::int64_t n, std::int64_t k, const std::uint16_t* weight,
               Precision precision, Use use);

  // Rows on a GPU may be stored in either type, whatever the precision of the products.

  /// out [T, n] = in [T, k] W^T, and `bias` [n], where there is one, added to each row. A row's result does
  /// not depend on other rows.
  void forward(const Stream& on, std::int64_t T, ConstValues in, Values out,
               const float* bias = nullptr) const;

  /// From d_out [T, n]: d_in [T, k] = d_out W.
  void backward_input(const Stream& on, std::int64_t T, ConstValues d_out, Values d_in) const;

  /// Adds d_out^T in, of d_out [T, n] and in [T, k], to d_weight [n, k].
  void backward_weight(const Stream& on, std::int64_t T, ConstValues d_out, ConstValues in,
                       float* d_weight) const;

  /// Memory that preparing takes beside W itself.
  static std::int64_t bytes(std::int64_t n, std::int64_t k, Precision precision, Use use,
                            Precision stored = Precision::kFloat32, Device device = Device::kCpu);

 private:
  void set(std::int64_t n, std::int64_t k, Precision precision, Use use);
  void forward_on_cpu(const Stream& on, std::int64_t T, const float* in, float* out) const;
  /// Calls visit(first, rows, W[first] in float32) for pieces of a W that is stored in bfloat16.
  template <class Visit>
  void for_each_widened(const Stream& on, Visit&& visit) const;
  /// For a GPU, which reads W as it lies or from the one copy in the other element type.
  PreparedMatrix prepared() const;

  std::int64_t n_ = 0, k_ = 0;
  const float* weight_ = nullptr;                 // either this
  const std::uint16_t* narrow_weight_ = nullptr;  // or this
  Precision precision_ = Precision::kFloat32;
  Use use_ = Use::kScoring;
  Buffer<float> packed_;                   // float32, the library's layout
  Buffer<std::uint16_t> packed_bfloat16_;  // the same in bfloat16
  Buffer<std::uint16_t> bfloat16_;         // [n, k], for d_in, where W is stored in float32
};

}  // namespace infalign::kernels
