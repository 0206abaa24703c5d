// LayerNorm against float64, its gradient against central differences.
#include "kernels/layer_norm/layer_norm.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

constexpr float kEpsilon = 1e-3f;

struct Case {
  std::int64_t T, C;
};

Doubles reference(const Case& test, const Doubles& x, const Doubles& weight, const Doubles& bias) {
  Doubles out(x.size());
  const auto width = static_cast<double>(test.C);
  for (std::int64_t t = 0; t < test.T; ++t) {
    const auto row = static_cast<std::size_t>(t * test.C);
    double mean = 0, variance = 0;
    for (std::size_t c = 0; c < weight.size(); ++c) mean += x[row + c] / width;
    for (std::size_t c = 0; c < weight.size(); ++c)
      variance += (x[row + c] - mean) * (x[row + c] - mean) / width;
    for (std::size_t c = 0; c < weight.size(); ++c)
      out[row + c] = (x[row + c] - mean) / std::sqrt(variance + double{kEpsilon}) * weight[c] + bias[c];
  }
  return out;
}

TEST(LayerNorm, ForwardAgreesWithReference) {
  for (const Case& test : {Case{1, 1}, Case{3, 7}, Case{131, 64}, Case{65, 127}})
    for (const bool branching : {false, true}) {
      const Floats before = normal(test.T * test.C, 1, 3), branch = normal(test.T * test.C, 2),
                   weight = normal(test.C, 3), bias = normal(test.C, 4);
      Floats residual = before, out(residual.size()), inverse(static_cast<std::size_t>(test.T));
      add_layer_norm_forward({}, test.T, test.C, kEpsilon, residual.data(),
                             branching ? branch.data() : nullptr, weight.data(), bias.data(), out.data(),
                             inverse.data());
      Floats sum = before;
      for (std::size_t i = 0; branching && i < sum.size(); ++i) sum[i] += branch[i];
      EXPECT_EQ(residual, sum);
      expect_close(reference(test, widened(sum), widened(weight), widened(bias)), out, 1e-6, "out");
    }
}

struct Gradients {
  Floats residual, weight, bias;
};

Gradients backward(const Case& test, const Floats& x, const Floats& weight, const Floats& bias,
                   const Floats& d_out, float before) {
  Floats sum = x, out(x.size()), inverse(static_cast<std::size_t>(test.T));
  add_layer_norm_forward({}, test.T, test.C, kEpsilon, sum.data(), nullptr, weight.data(), bias.data(),
                         out.data(), inverse.data());
  Gradients gradients{Floats(x.size(), before), Floats(weight.size(), before), Floats(bias.size(), before)};
  layer_norm_backward({}, test.T, test.C, d_out.data(), x.data(), weight.data(), inverse.data(),
                      gradients.residual.data(), gradients.weight.data(), gradients.bias.data());
  return gradients;
}

TEST(LayerNorm, GradientAgreesWithCentralDifferences) {
  for (const Case& test : {Case{1, 1}, Case{3, 7}, Case{67, 5}, Case{2, 33}}) {
    const Floats x = normal(test.T * test.C, 4), weight = normal(test.C, 5), bias = normal(test.C, 6),
                 d_out = normal(test.T * test.C, 7);
    const auto loss = [&](const Doubles& at, const Doubles& w, const Doubles& b) {
      const Doubles out = reference(test, at, w, b);
      double sum = 0;
      for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * double{d_out[i]};
      return sum;
    };
    const Doubles at = widened(x), w = widened(weight), b = widened(bias);
    Doubles d_x = numeric_gradient([&](const Doubles& v) { return loss(v, w, b); }, at);
    Doubles d_weight = numeric_gradient([&](const Doubles& v) { return loss(at, v, b); }, w);
    Doubles d_bias = numeric_gradient([&](const Doubles& v) { return loss(at, w, v); }, b);
    for (Doubles* gradient : {&d_x, &d_weight, &d_bias})
      for (double& value : *gradient) value += 0.5;  // added to what was there
    const Gradients actual = backward(test, x, weight, bias, d_out, 0.5f);
    expect_close(d_x, actual.residual, 2e-6, "d_residual");
    expect_close(d_weight, actual.weight, 1e-6, "d_weight");
    expect_close(d_bias, actual.bias, 1e-6, "d_bias");
  }
}

TEST(LayerNorm, DoesNotDependOnThreads) {
  const Case test{517, 48};
  const Floats x = normal(test.T * test.C, 7), weight = normal(test.C, 8), bias = normal(test.C, 9),
               d_out = normal(test.T * test.C, 10);
  Gradients one, three;
  with_threads(1, [&] { one = backward(test, x, weight, bias, d_out, 0); });
  with_threads(3, [&] { three = backward(test, x, weight, bias, d_out, 0); });
  EXPECT_EQ(one.residual, three.residual);
  EXPECT_EQ(one.weight, three.weight);
  EXPECT_EQ(one.bias, three.bias);
}

}  // namespace
}  // namespace infalign::kernels
