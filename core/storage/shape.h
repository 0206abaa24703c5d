// Shapes of row-major tensors, and the boxes that an interval of their elements consists of. Ranks hold
// intervals of a flat buffer, files show whole tensors: this is the arithmetic between the two, free of any
// file format.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace infalign::storage {

using Shape = std::vector<std::int64_t>;

/// A row-major box of a tensor: `count` elements from `start` on in each dimension.
struct Box {
  Shape start, count;
  std::int64_t size() const;
};

/// Cuts the row-major elements [begin, end) of a tensor into boxes, in order: at most 2 dimensions - 1 of
/// them (a part of a row, whole rows, a part of a row). HDF5 can select a box, but no such interval.
std::vector<Box> boxes_of_interval(const Shape& shape, std::int64_t begin, std::int64_t end);

/// Product of the extents; 1 for none. Errors: std::overflow_error.
std::int64_t element_count(const Shape& shape);

/// "[2, 3]".
std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace infalign::storage
