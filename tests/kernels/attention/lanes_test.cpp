// Rows to lanes and back: exact, for whole and partial squares, leaving the rest of the rows alone.
#include "kernels/attention/lanes.h"

#include "kernels/attention/tile_product.h"
#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

TEST(Lanes, ThereAndBack) {
  for (const std::int64_t tokens : {1, 4, 5, 16, 33})
    for (const std::int64_t group : {1, 2, 3})
      for (const std::int64_t head_dim : {1, 5, 8, 20, 32}) {
        SCOPED_TRACE(std::to_string(tokens) + " x " + std::to_string(group) + " x " +
                     std::to_string(head_dim));
        const LaneLayout layout{tokens, group, padded(tokens * group)};
        const std::int64_t stride = group * head_dim + 3;
        const Floats rows = normal(tokens * stride, 1);
        Floats lanes(static_cast<std::size_t>(head_dim * layout.lanes), NAN), expected(lanes.size());
        for (std::int64_t t = 0; t < tokens; ++t)
          for (std::int64_t g = 0; g < group; ++g)
            for (std::int64_t d = 0; d < head_dim; ++d)
              expected[static_cast<std::size_t>(d * layout.lanes + t * group + g)] =
                  2 * rows[static_cast<std::size_t>(t * stride + g * head_dim + d)];
        rows_to_lanes(layout, head_dim, rows.data(), stride, 2.0f, lanes.data());
        EXPECT_EQ(lanes, expected);

        Floats back(rows.size(), 7.0f);
        lanes_to_rows(layout, head_dim, lanes.data(), back.data(), stride);
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const bool between = static_cast<std::int64_t>(i) % stride >= group * head_dim;
          ASSERT_EQ(back[i], between ? 7.0f : 2 * rows[i]) << i;
        }
      }
}

}  // namespace
}  // namespace infalign::kernels
