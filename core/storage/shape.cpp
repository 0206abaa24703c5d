#include "core/storage/shape.h"

#include <algorithm>
#include <stdexcept>

namespace infalign::storage {

std::int64_t Box::size() const { return element_count(count); }

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(count, extent, &count)) {
      throw std::overflow_error("the shape " + shape_text(shape) + " has no number of elements");
    }
  }
  return count;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

std::vector<Box> boxes_of_interval(const Shape& shape, std::int64_t begin, std::int64_t end) {
  std::vector<Box> boxes;
  while (begin < end) {
    // The outermost dimension along which one can step from `begin` without leaving the interval: all inside
    // it are whole.
    std::size_t along = shape.size() - 1;
    std::int64_t stride = 1;
    while (along > 0 && begin % (stride * shape[along]) == 0 && begin + stride * shape[along] <= end) {
      stride *= shape[along--];
    }
    Box box{Shape(shape.size(), 0), Shape(shape.size(), 1)};
    std::int64_t rest = begin / stride;
    for (std::size_t d = along + 1; d-- > 0; rest /= shape[d]) box.start[d] = rest % shape[d];
    box.count[along] = std::min((end - begin) / stride, shape[along] - box.start[along]);
    std::copy(shape.begin() + static_cast<std::ptrdiff_t>(along) + 1, shape.end(),
              box.count.begin() + static_cast<std::ptrdiff_t>(along) + 1);
    begin += box.size();
    boxes.push_back(std::move(box));
  }
  return boxes;
}

}  // namespace infalign::storage
