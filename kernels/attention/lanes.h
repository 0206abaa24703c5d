// Between rows of the batch, where a head's numbers lie together, and lanes, where the same number of many
// queries does. A lane is a (token, query head of a group) pair, token-major.
#pragma once

#include <cstdint>

namespace infalign::kernels {

struct LaneLayout {
  std::int64_t tokens = 0;
  std::int64_t group = 0;  // query heads of each token, side by side in its row
  std::int64_t lanes = 0;  // padded(tokens * group)
};

/// to [head_dim, lanes] = the heads of rows `stride` apart, times factor; unused lanes become zero.
void rows_to_lanes(const LaneLayout& layout, std::int64_t head_dim, const float* rows, std::int64_t stride,
                   float factor, float* to);

/// The heads of rows `stride` apart = from [head_dim, lanes].
void lanes_to_rows(const LaneLayout& layout, std::int64_t head_dim, const float* from, float* rows,
                   std::int64_t stride);

}  // namespace infalign::kernels
