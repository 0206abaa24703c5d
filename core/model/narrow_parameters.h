// Parameters as passes read them, in half the memory: matrices and tables in bfloat16, the little that is
// neither in float32. What is trained keeps float32 beside them (core/stages/narrow_model.h): an update
// smaller than a bfloat16's last digit would be lost.
#pragma once

#include <cstdint>
#include <map>
#include <span>

#include "core/model/parameters.h"
#include "kernels/device.h"
#include "kernels/linear/bfloat16.h"

namespace infalign::model {

class NarrowParameters {
 public:
  NarrowParameters() = default;
  /// Room for the parameters of a layout, all 0, on a device; of the vectors only, where matrices are held
  /// elsewhere.
  explicit NarrowParameters(const ParameterLayout& layout, const kernels::Stream& on = {},
                            bool with_matrices = true);

  bool empty() const { return vectors_.size() == 0; }

  /// Whether a tensor is held in bfloat16; a score head, one row, is not.
  static bool is_narrow(const ParameterView& view) { return view.shape.size() >= 2 && view.shape[0] > 1; }

  /// The tensor that begins at this offset of the layout, of the one kind or the other.
  kernels::Bfloat16* matrix(std::int64_t offset) { return matrices_.data() + offset; }
  const kernels::Bfloat16* matrix(std::int64_t offset) const { return matrices_.data() + offset; }
  float* vector(std::int64_t offset) { return vectors_.data() + place_.at(offset); }
  const float* vector(std::int64_t offset) const { return vectors_.data() + place_.at(offset); }

  /// The values [view.size] of a tensor, a matrix's rounded.
  void set(const kernels::Stream& on, const ParameterView& view, std::span<const float> values);
  /// All of them as float32, into `parameters` [layout.size()] on the same device.
  void copy_to(const kernels::Stream& on, const ParameterLayout& layout, std::span<float> parameters) const {
    copy_to(on, layout, {0, layout.size()}, matrices(), parameters);
  }
  /// Those of a part into `to` [part.size], where `matrices` [part.size] hold the matrices there.
  void copy_to(const kernels::Stream& on, const ParameterLayout& layout, const ParameterRange& part,
               std::span<const kernels::Bfloat16> matrices, std::span<float> to) const;
  /// A tensor as float32; where it is a matrix, of these values, which may come from elsewhere.
  void copy_to(const kernels::Stream& on, const ParameterView& view,
               std::span<const kernels::Bfloat16> matrix, std::span<float> to) const;
  /// All vectors, one after another in the order of the layout.
  std::span<float> vectors() { return vectors_.span(); }
  /// What holds the matrices, [layout.size()].
  std::span<kernels::Bfloat16> matrices() { return matrices_.span(); }
  std::span<const kernels::Bfloat16> matrices() const { return matrices_.span(); }

  /// The matrices are held elsewhere from here on; what is read of them here is gone.
  void drop_matrices() { matrices_ = {}; }

  /// Brings all of them to the stream's device, from the CPU, where set() and readers of files left them.
  void move_to(const kernels::Stream& on);

  static std::int64_t bytes(const ParameterLayout& layout);

 private:
  kernels::Buffer<kernels::Bfloat16> matrices_;  // [layout.size()]; where vectors would be nothing is touched
  kernels::Buffer<float> vectors_;
  std::map<std::int64_t, std::int64_t> place_;  // of the vector at an offset of the layout, in vectors_
};

}  // namespace infalign::model
