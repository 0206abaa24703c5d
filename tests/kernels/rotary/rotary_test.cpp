// Rotary embedding against float64 angles; the backward rotation is the inverse; scores depend on distance
// alone.
#include "kernels/rotary/rotary.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

Floats frequencies(std::int64_t head_dim, double theta) {
  Floats inverse;
  for (std::int64_t d = 0; d < head_dim / 2; ++d)
    inverse.push_back(
        static_cast<float>(std::pow(theta, -2.0 * static_cast<double>(d) / static_cast<double>(head_dim))));
  return inverse;
}

std::vector<std::int32_t> some_positions(std::int64_t T) {
  std::vector<std::int32_t> positions;
  for (std::int64_t t = 0; t < T; ++t) positions.push_back(static_cast<std::int32_t>((t * 37) % 1009));
  return positions;
}

TEST(Rotary, AgreesWithReference) {
  for (const std::int64_t head_dim : {2, 6, 8, 16, 32, 64, 128})
    for (const double theta : {10000.0, 500000.0}) {  // two tables at a time
      const std::int64_t T = 67, heads = 3, stride = heads * head_dim + 5;
      const Floats inverse = frequencies(head_dim, theta), before = normal(T * stride, 1);
      const auto positions = some_positions(T);
      Doubles expected = widened(before);
      for (std::int64_t t = 0; t < T; ++t)
        for (std::int64_t head = 0; head < heads; ++head)
          for (std::int64_t d = 0; d < head_dim / 2; ++d) {
            const double angle = static_cast<double>(positions[static_cast<std::size_t>(t)]) *
                                 static_cast<double>(inverse[static_cast<std::size_t>(d)]);
            const auto low = static_cast<std::size_t>(t * stride + head * head_dim + d);
            const auto high = low + static_cast<std::size_t>(head_dim / 2);
            const double a = expected[low], b = expected[high];
            expected[low] = a * std::cos(angle) - b * std::sin(angle);
            expected[high] = b * std::cos(angle) + a * std::sin(angle);
          }
      Floats x = before;
      rotary({}, Rotation::kForward, T, heads, head_dim, positions.data(), inverse.data(), x.data(), stride);
      expect_close(expected, x, 3e-7, "forward");
      rotary({}, Rotation::kBackward, T, heads, head_dim, positions.data(), inverse.data(), x.data(), stride);
      expect_close(widened(before), x, 3e-7, "there and back");
    }
}

// The first values of a head turn as a head of that size would; the others stay.
TEST(Rotary, RotatesAPartOfAHead) {
  const std::int64_t T = 5, heads = 3, head_dim = 10, part = 6;
  const Floats inverse = frequencies(part, 10000), before = normal(T * heads * head_dim, 4);
  const auto positions = some_positions(T);
  Floats x = before;
  rotary({}, Rotation::kForward, T, heads, head_dim, positions.data(), inverse.data(), x.data(),
         heads * head_dim, part);
  for (std::int64_t t = 0; t < T; ++t)
    for (std::int64_t head = 0; head < heads; ++head) {
      const auto from = before.begin() + (t * heads + head) * head_dim;
      Floats expected(from, from + head_dim);
      rotary({}, Rotation::kForward, 1, 1, part, positions.data() + t, inverse.data(), expected.data(), part);
      const auto at = x.begin() + (t * heads + head) * head_dim;
      EXPECT_EQ(Floats(at, at + head_dim), expected);
    }
}

TEST(Rotary, ScoresDependOnDistanceAlone) {
  const std::int64_t head_dim = 32;
  const Floats inverse = frequencies(head_dim, 10000);
  const auto score = [&](std::int32_t query_at, std::int32_t key_at) {
    Floats rows = normal(2 * head_dim, 2);
    const std::vector<std::int32_t> positions{query_at, key_at};
    rotary({}, Rotation::kForward, 2, 1, head_dim, positions.data(), inverse.data(), rows.data(), head_dim);
    double sum = 0;
    for (std::size_t d = 0; d < 32; ++d)
      sum += static_cast<double>(rows[d]) * static_cast<double>(rows[32 + d]);
    return sum;
  };
  EXPECT_NEAR(score(7, 3), score(5007, 5003), 2e-5);  // the table grows in between
  EXPECT_GT(std::abs(score(7, 3) - score(7, 4)), 1e-3);
}

TEST(Rotary, DoesNotDependOnThreads) {
  const std::int64_t T = 500, head_dim = 8;
  const Floats inverse = frequencies(head_dim, 10000), before = normal(T * head_dim, 3);
  Floats one = before, three = before;
  const auto positions = some_positions(T);
  const auto rotate = [&](Floats& x) {
    rotary({}, Rotation::kForward, T, 1, head_dim, positions.data(), inverse.data(), x.data(), head_dim);
  };
  with_threads(1, [&] { rotate(one); });
  with_threads(3, [&] { rotate(three); });
  EXPECT_EQ(one, three);
}

}  // namespace
}  // namespace infalign::kernels
