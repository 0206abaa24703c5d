#include "core/model/narrow_parameters.h"

#include <algorithm>
#include <utility>

namespace infalign::model {

NarrowParameters::NarrowParameters(const ParameterLayout& layout, const kernels::Stream& on,
                                   bool with_matrices)
    : matrices_(on, with_matrices ? static_cast<std::size_t>(layout.size()) : 0) {
  std::int64_t size = 0;
  for (const ParameterView& view : layout.views()) {
    if (is_narrow(view)) continue;
    place_[view.offset] = size;
    size += view.size;
  }
  vectors_ = kernels::Buffer<float>(on, static_cast<std::size_t>(size));
}

void NarrowParameters::set(const kernels::Stream& on, const ParameterView& view,
                           std::span<const float> values) {
  if (is_narrow(view))
    kernels::round_to_bfloat16(on, view.size, values.data(), matrix(view.offset));
  else
    std::ranges::copy(values, vector(view.offset));
}

void NarrowParameters::copy_to(const kernels::Stream& on, const ParameterLayout& layout,
                               const ParameterRange& part, std::span<const kernels::Bfloat16> matrices,
                               std::span<float> to) const {
  for (const ParameterView& view : layout.views()) {
    const ParameterRange tensor{view.offset, view.size};
    if (!part.meets(tensor)) continue;
    const auto [first, size] = part.common(tensor);
    float* const values = to.data() + (first - part.offset);
    if (is_narrow(view))
      kernels::widen_bfloat16(on, size, matrices.data() + (first - part.offset), values);
    else
      kernels::copy(on, size, vector(view.offset) + (first - view.offset), values);
  }
}

void NarrowParameters::copy_to(const kernels::Stream& on, const ParameterView& view,
                               std::span<const kernels::Bfloat16> matrix, std::span<float> to) const {
  if (is_narrow(view))
    kernels::widen_bfloat16(on, view.size, matrix.data(), to.data());
  else
    kernels::copy(on, view.size, vector(view.offset), to.data());
}

void NarrowParameters::move_to(const kernels::Stream& on) {
  matrices_ = kernels::moved_to(on, std::move(matrices_));
  vectors_ = kernels::moved_to(on, std::move(vectors_));
}

std::int64_t NarrowParameters::bytes(const ParameterLayout& layout) {
  std::int64_t bytes = layout.size() * static_cast<std::int64_t>(sizeof(kernels::Bfloat16));
  for (const ParameterView& view : layout.views())
    if (!is_narrow(view)) bytes += view.size * static_cast<std::int64_t>(sizeof(float));
  return bytes;
}

}  // namespace infalign::model
