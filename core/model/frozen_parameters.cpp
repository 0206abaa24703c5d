#include "core/model/frozen_parameters.h"

#include <algorithm>
#include <utility>

namespace infalign::model {

FrozenParameters::FrozenParameters(const ParameterLayout& layout)
    : matrices_(static_cast<std::size_t>(layout.size())) {
  std::int64_t size = 0;
  for (const ParameterView& view : layout.views()) {
    if (is_narrow(view)) continue;
    place_[view.offset] = size;
    size += view.size;
  }
  vectors_ = kernels::Buffer<float>(static_cast<std::size_t>(size));
}

void FrozenParameters::set(const kernels::Stream& on, const ParameterView& view,
                           std::span<const float> values) {
  if (is_narrow(view))
    kernels::round_to_bfloat16(on, view.size, values.data(), matrix(view.offset));
  else
    std::ranges::copy(values, vector(view.offset));
}

void FrozenParameters::copy_to(const kernels::Stream& on, const ParameterLayout& layout,
                               std::span<float> parameters, std::int64_t begin, std::int64_t end) const {
  for (const ParameterView& view : layout.views()) {
    const std::int64_t first = std::max(begin, view.offset), last = std::min(end, view.offset + view.size);
    if (first >= last) continue;
    if (is_narrow(view))
      kernels::widen_bfloat16(on, last - first, matrix(first), parameters.data() + first);
    else
      kernels::copy(on, last - first, vector(view.offset) + first - view.offset, parameters.data() + first);
  }
}

void FrozenParameters::copy_to(const kernels::Stream& on, const ParameterView& view,
                               std::span<const kernels::Bfloat16> matrix, std::span<float> to) const {
  if (is_narrow(view))
    kernels::widen_bfloat16(on, view.size, matrix.data(), to.data());
  else
    kernels::copy(on, view.size, vector(view.offset), to.data());
}

void FrozenParameters::move_to(const kernels::Stream& on) {
  matrices_ = kernels::moved_to(on, std::move(matrices_));
  vectors_ = kernels::moved_to(on, std::move(vectors_));
}

std::int64_t FrozenParameters::bytes(const ParameterLayout& layout) {
  std::int64_t bytes = layout.size() * static_cast<std::int64_t>(sizeof(kernels::Bfloat16));
  for (const ParameterView& view : layout.views())
    if (!is_narrow(view)) bytes += view.size * static_cast<std::int64_t>(sizeof(float));
  return bytes;
}

}  // namespace infalign::model
