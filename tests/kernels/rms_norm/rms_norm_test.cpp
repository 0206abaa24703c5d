// RMSNorm against float64, its gradient against central differences.
#include "kernels/rms_norm/rms_norm.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

constexpr float kEpsilon = 1e-3f;

struct Case {
  std::int64_t T, C;
};

Doubles reference(const Case& test, const Doubles& x, const Doubles& weight) {
  Doubles out(x.size());
  for (std::int64_t t = 0; t < test.T; ++t) {
    double squares = 0;
    const auto row = static_cast<std::size_t>(t * test.C);
    for (std::size_t c = 0; c < weight.size(); ++c) squares += x[row + c] * x[row + c];
    const double inverse =
        1 / std::sqrt(squares / static_cast<double>(test.C) + static_cast<double>(kEpsilon));
    for (std::size_t c = 0; c < weight.size(); ++c) out[row + c] = x[row + c] * inverse * weight[c];
  }
  return out;
}

TEST(RmsNorm, ForwardAgreesWithReference) {
  for (const Case& test : {Case{1, 1}, Case{3, 7}, Case{131, 64}, Case{65, 127}})
    for (const bool branching : {false, true}) {
      const Floats before = normal(test.T * test.C, 1), branch = normal(test.T * test.C, 2),
                   weight = normal(test.C, 3);
      Floats residual = before, out(residual.size()), inverse_rms(static_cast<std::size_t>(test.T));
      add_rms_norm_forward({}, test.T, test.C, kEpsilon, residual.data(), branching ? branch.data() : nullptr,
                           weight.data(), out.data(), inverse_rms.data());
      Floats sum = before;
      for (std::size_t i = 0; branching && i < sum.size(); ++i) sum[i] += branch[i];
      EXPECT_EQ(residual, sum);
      expect_close(reference(test, widened(sum), widened(weight)), out, 1e-6, "out");
    }
}

struct Gradients {
  Floats residual, weight;
};

Gradients backward(const Case& test, const Floats& x, const Floats& weight, const Floats& d_out,
                   float before) {
  Floats sum = x, out(x.size()), inverse_rms(static_cast<std::size_t>(test.T));
  add_rms_norm_forward({}, test.T, test.C, kEpsilon, sum.data(), nullptr, weight.data(), out.data(),
                       inverse_rms.data());
  Gradients gradients{Floats(x.size(), before), Floats(weight.size(), before)};
  rms_norm_backward({}, test.T, test.C, d_out.data(), x.data(), weight.data(), inverse_rms.data(),
                    gradients.residual.data(), gradients.weight.data());
  return gradients;
}

TEST(RmsNorm, GradientAgreesWithCentralDifferences) {
  for (const Case& test : {Case{1, 1}, Case{3, 7}, Case{67, 5}, Case{2, 33}}) {
    const Floats x = normal(test.T * test.C, 4), weight = normal(test.C, 5),
                 d_out = normal(test.T * test.C, 6);
    const auto loss = [&](const Doubles& at, const Doubles& w) {
      const Doubles out = reference(test, at, w);
      double sum = 0;
      for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * static_cast<double>(d_out[i]);
      return sum;
    };
    const Doubles wide_x = widened(x), wide_weight = widened(weight);
    Doubles d_x = numeric_gradient([&](const Doubles& at) { return loss(at, wide_weight); }, wide_x);
    Doubles d_weight = numeric_gradient([&](const Doubles& at) { return loss(wide_x, at); }, wide_weight);
    for (Doubles* gradient : {&d_x, &d_weight})
      for (double& value : *gradient) value += 0.5;  // added to what was there
    const Gradients actual = backward(test, x, weight, d_out, 0.5f);
    expect_close(d_x, actual.residual, 1e-6, "d_residual");
    expect_close(d_weight, actual.weight, 1e-6, "d_weight");
  }
}

TEST(RmsNorm, DoesNotDependOnThreads) {
  const Case test{517, 48};
  const Floats x = normal(test.T * test.C, 7), weight = normal(test.C, 8), d_out = normal(test.T * test.C, 9);
  Gradients one, three;
  with_threads(1, [&] { one = backward(test, x, weight, d_out, 0); });
  with_threads(3, [&] { three = backward(test, x, weight, d_out, 0); });
  EXPECT_EQ(one.residual, three.residual);
  EXPECT_EQ(one.weight, three.weight);
}

}  // namespace
}  // namespace infalign::kernels
