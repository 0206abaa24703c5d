// Which segments of a packed batch have to do with each other. Families are what attention is shared out by.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/attention/attention.h"

namespace infalign::kernels {

/// Segments [begin, end) of a batch, which neither attend to other segments nor are attended to by them:
/// usually a prompt and its responses.
struct Family {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// The shortest runs of segments that are families; together they are all segments, in order.
std::vector<Family> families_of(std::span<const Segment> segments);

}  // namespace infalign::kernels
