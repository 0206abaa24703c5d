// Biases: rows that get one, and sums of columns.
#include "kernels/bias/bias.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

TEST(Bias, IsAddedToEveryRowAndItsGradientSumsThem) {
  for (const auto& [T, n] : {std::pair{1, 1}, std::pair{3, 7}, std::pair{131, 200}}) {
    const Floats before = normal(T * n, 1), bias = normal(n, 2);
    Floats x = before, d_bias(bias.size(), 0.5f);
    bias_forward({}, T, n, bias.data(), x.data());
    bias_backward({}, T, n, before.data(), d_bias.data());
    Doubles expected(bias.size(), 0.5);  // added to what was there
    for (std::size_t i = 0; i < before.size(); ++i) {
      const std::size_t column = i % bias.size();
      EXPECT_EQ(x[i], before[i] + bias[column]);
      expected[column] += double{before[i]};
    }
    expect_close(expected, d_bias, 1e-6, "d_bias");
  }
}

TEST(Bias, DoesNotDependOnThreads) {
  const std::int64_t T = 333, n = 200;
  const Floats d = normal(T * n, 3);
  Floats one(n), three(n);
  with_threads(1, [&] { bias_backward({}, T, n, d.data(), one.data()); });
  with_threads(3, [&] { bias_backward({}, T, n, d.data(), three.data()); });
  EXPECT_EQ(one, three);
}

}  // namespace
}  // namespace infalign::kernels
