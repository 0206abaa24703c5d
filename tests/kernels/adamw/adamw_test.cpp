// AdamW against the published recurrence in float64 over several steps, and against itself cut into shards.
#include "kernels/adamw/adamw.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

constexpr AdamWStep kHyper{.learning_rate = 0.01f,
                           .beta1 = 0.9f,
                           .beta2 = 0.99f,
                           .epsilon = 1e-6f,
                           .weight_decay = 0.1f,
                           .gradient_scale = 0.5f,
                           .step = 1};

TEST(AdamW, FollowsTheRecurrence) {
  for (const std::int64_t n : {1, 7, 131}) {
    Floats parameter = normal(n, 1), m(parameter.size()), v(parameter.size());
    Doubles expected = widened(parameter), mean(expected.size()), square(expected.size());
    for (std::int64_t step = 1; step <= 5; ++step) {
      const Floats gradient = normal(n, static_cast<std::uint32_t>(10 + step));
      AdamWStep hyper = kHyper;
      hyper.step = step;
      adamw({}, hyper, n, gradient.data(), parameter.data(), m.data(), v.data());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const double g = 0.5 * static_cast<double>(gradient[i]);
        expected[i] *= 1 - 0.01 * 0.1;
        mean[i] = 0.9 * mean[i] + 0.1 * g;
        square[i] = 0.99 * square[i] + 0.01 * g * g;
        const double corrected_mean = mean[i] / (1 - std::pow(0.9, static_cast<double>(step)));
        const double corrected_square = square[i] / (1 - std::pow(0.99, static_cast<double>(step)));
        expected[i] -= 0.01 * corrected_mean / (std::sqrt(corrected_square) + 1e-6);
      }
    }
    expect_close(expected, parameter, 1e-6, "parameter");
    expect_close(mean, m, 1e-6, "first moment");
    expect_close(square, v, 1e-6, "second moment");
  }
}

TEST(AdamW, AnySplitGivesTheSameBits) {
  const std::int64_t n = 1000;
  const Floats gradient = normal(n, 2), parameter = normal(n, 3), m = normal(n, 4);
  Floats v = normal(n, 5);
  for (float& value : v) value *= value;
  struct State {
    Floats parameter, m, v;
    bool operator==(const State&) const = default;
  };
  const State before{parameter, m, v};
  State whole = before;
  adamw({}, kHyper, n, gradient.data(), whole.parameter.data(), whole.m.data(), whole.v.data());
  for (const std::int64_t piece : {1, 5, 13, 333}) {
    State pieces = before;
    for (std::int64_t begin = 0; begin < n; begin += piece)
      adamw({}, kHyper, std::min(piece, n - begin), gradient.data() + begin, pieces.parameter.data() + begin,
            pieces.m.data() + begin, pieces.v.data() + begin);
    EXPECT_TRUE(pieces == whole) << piece;
  }
}

}  // namespace
}  // namespace infalign::kernels
