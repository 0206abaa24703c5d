#include "core/storage/shape.h"

#include <gtest/gtest.h>

#include <numeric>
#include <stdexcept>

namespace infalign::storage {
namespace {

/// The flat indices of a box, in row-major order.
std::vector<std::int64_t> flat_indices(const Shape& shape, const Box& box) {
  std::vector<std::int64_t> flat;
  for (std::int64_t i = 0; i < box.size(); ++i) {
    std::int64_t rest = i, index = 0, stride = 1;
    for (std::size_t d = shape.size(); d-- > 0; rest /= box.count[d], stride *= shape[d]) {
      index += (box.start[d] + rest % box.count[d]) * stride;
    }
    flat.push_back(index);
  }
  return flat;
}

TEST(BoxesOfInterval, AreTheIntervalInOrderAndFew) {
  for (const Shape& shape :
       {Shape{7}, Shape{1}, Shape{4, 3}, Shape{1, 5}, Shape{5, 1}, Shape{2, 3, 4}, Shape{3, 1, 2, 2}}) {
    const std::int64_t size = element_count(shape);
    for (std::int64_t begin = 0; begin <= size; ++begin) {
      for (std::int64_t end = begin; end <= size; ++end) {
        std::vector<std::int64_t> covered, expected(static_cast<std::size_t>(end - begin));
        std::iota(expected.begin(), expected.end(), begin);
        const auto boxes = boxes_of_interval(shape, begin, end);
        for (const Box& box : boxes) {
          const auto indices = flat_indices(shape, box);
          covered.insert(covered.end(), indices.begin(), indices.end());
        }
        EXPECT_EQ(covered, expected) << shape_text(shape) << " " << begin << " " << end;
        EXPECT_LE(boxes.size(), 2 * shape.size() - 1) << shape_text(shape) << " " << begin << " " << end;
      }
    }
  }
}

TEST(BoxesOfInterval, AWholeTensorIsOneBox) {
  const auto boxes = boxes_of_interval({3, 4, 5}, 0, 60);
  ASSERT_EQ(boxes.size(), 1U);
  EXPECT_EQ(boxes[0].count, (Shape{3, 4, 5}));
}

TEST(ElementCount, RefusesWhatDoesNotFit) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({3, 0, 2}), 0);
  EXPECT_THROW(element_count({std::int64_t{1} << 40, std::int64_t{1} << 40}), std::overflow_error);
  EXPECT_THROW(element_count({-1}), std::overflow_error);
}

}  // namespace
}  // namespace infalign::storage
