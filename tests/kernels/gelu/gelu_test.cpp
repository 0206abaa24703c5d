// Both forms of GELU, plain and gated, against float64, their gradients against central differences, and
// values far out.
#include "kernels/gelu/gelu.h"

#include <numbers>

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

double reference(Gelu kind, double x) {
  if (kind == Gelu::kErf) return x / 2 * (1 + std::erf(x / std::numbers::sqrt2));
  return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

double slope(Gelu kind, double x) {
  return numeric_gradient([&](const Doubles& at) { return reference(kind, at[0]); }, {x})[0];
}

class Forms : public ::testing::TestWithParam<Gelu> {};
INSTANTIATE_TEST_SUITE_P(Gelu, Forms, ::testing::Values(Gelu::kTanh, Gelu::kErf),
                         [](const auto& param) { return param.param == Gelu::kTanh ? "tanh" : "erf"; });

TEST_P(Forms, PlainAgreesWithReferenceAndCentralDifferences) {
  const std::int64_t n = 9001;
  const Floats x = normal(n, 1, 3), d_out = normal(n, 2);
  Floats out(x.size()), d_x(x.size(), 77.0f);
  gelu_forward({}, GetParam(), n, x.data(), out.data());
  gelu_backward({}, GetParam(), n, x.data(), d_out.data(), d_x.data());
  Doubles expected, gradient;
  for (std::size_t i = 0; i < x.size(); ++i) {
    expected.push_back(reference(GetParam(), double{x[i]}));
    gradient.push_back(double{d_out[i]} * slope(GetParam(), double{x[i]}));
  }
  expect_close(expected, out, 5e-7, "out");
  expect_close(gradient, d_x, 1e-6, "d_x");
}

TEST_P(Forms, GatedAgreesWithReferenceAndCentralDifferences) {
  for (const auto& [T, F] : {std::pair{1L, 1L}, std::pair{3L, 7L}, std::pair{67L, 172L}}) {
    const Floats gate_up = normal(T * 2 * F, 3, 2), d_out = normal(T * F, 4);
    Floats out(d_out.size()), d_gate_up(gate_up.size(), 77.0f);
    geglu_forward({}, GetParam(), T, F, gate_up.data(), out.data());
    geglu_backward({}, GetParam(), T, F, gate_up.data(), d_out.data(), d_gate_up.data());
    Doubles expected, gradient(gate_up.size());
    for (std::int64_t t = 0; t < T; ++t)
      for (std::int64_t f = 0; f < F; ++f) {
        const auto at = static_cast<std::size_t>(t * 2 * F + f), up = at + static_cast<std::size_t>(F);
        const double x = gate_up[at], d = d_out[static_cast<std::size_t>(t * F + f)];
        expected.push_back(reference(GetParam(), x) * double{gate_up[up]});
        gradient[at] = d * slope(GetParam(), x) * double{gate_up[up]};
        gradient[up] = d * reference(GetParam(), x);
      }
    expect_close(expected, out, 5e-7, "out");
    expect_close(gradient, d_gate_up, 1e-6, "d_gate_up");
  }
}

TEST_P(Forms, StandsValuesFarOut) {
  const Floats x{-1e4f, 1e4f}, d_out{1.0f, 1.0f};
  Floats out(2), d_x(2);
  gelu_forward({}, GetParam(), 2, x.data(), out.data());
  gelu_backward({}, GetParam(), 2, x.data(), d_out.data(), d_x.data());
  EXPECT_NEAR(out[0], 0.0f, 1e-30f);
  EXPECT_EQ(out[1], 1e4f);
  EXPECT_NEAR(d_x[0], 0.0f, 1e-20f);
  EXPECT_EQ(d_x[1], 1.0f);
}

}  // namespace
}  // namespace infalign::kernels
