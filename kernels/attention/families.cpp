// A family may end after a segment if all rows and prefixes that follow lie beyond all rows and prefixes so
// far.
#include "kernels/attention/families.h"

#include <algorithm>
#include <limits>

namespace infalign::kernels {

std::vector<Family> families_of(std::span<const Segment> segments) {
  std::vector<std::int32_t> least_from(segments.size() + 1, std::numeric_limits<std::int32_t>::max());
  for (std::size_t i = segments.size(); i-- > 0;) {
    const Segment& segment = segments[i];
    const std::int32_t prefix = segment.prefix_length > 0 ? segment.prefix_begin : segment.begin;
    least_from[i] = std::min({least_from[i + 1], segment.begin, prefix});
  }
  std::vector<Family> families;
  std::int32_t beyond = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    const std::int32_t prefix_end =
        segment.prefix_length > 0 ? segment.prefix_begin + segment.prefix_length : 0;
    beyond = std::max({beyond, segment.begin + segment.length, prefix_end});
    if (least_from[i + 1] < beyond) continue;
    families.push_back({begin, i + 1});
    begin = i + 1;
  }
  return families;
}

}  // namespace infalign::kernels
