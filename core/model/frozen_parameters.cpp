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
                               std::span<float> parameters) const {
  for (const ParameterView& view : layout.views()) {
    float* to = parameters.data() + view.offset;
    if (is_narrow(view))
      kernels::widen_bfloat16(on, view.size, matrix(view.offset), to);
    else
      kernels::copy(on, view.size, vector(view.offset), to);
  }
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
