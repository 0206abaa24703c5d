// SwiGLU against float64, its gradient against central differences, and gates far out.
#include "kernels/swiglu/swiglu.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

struct Case {
  std::int64_t T, F;
};

Doubles reference(const Case& test, const Doubles& gate_up) {
  Doubles out;
  for (std::int64_t t = 0; t < test.T; ++t)
    for (std::int64_t f = 0; f < test.F; ++f) {
      const double gate = gate_up[static_cast<std::size_t>(t * 2 * test.F + f)];
      out.push_back(gate / (1 + std::exp(-gate)) *
                    gate_up[static_cast<std::size_t>(t * 2 * test.F + test.F + f)]);
    }
  return out;
}

TEST(SwiGlu, AgreesWithReferenceAndCentralDifferences) {
  for (const Case& test : {Case{1, 1}, Case{3, 7}, Case{67, 17}, Case{5, 172}}) {
    const Floats gate_up = normal(test.T * 2 * test.F, 1, 3), d_out = normal(test.T * test.F, 2);
    Floats out(d_out.size()), d_gate_up(gate_up.size(), 77.0f);
    swiglu_forward({}, test.T, test.F, gate_up.data(), out.data());
    swiglu_backward({}, test.T, test.F, gate_up.data(), d_out.data(), d_gate_up.data());
    expect_close(reference(test, widened(gate_up)), out, 5e-7, "out");
    const Case one{1, 1};  // entries do not interact, so each has its own small difference quotient
    Doubles expected(gate_up.size());
    for (std::int64_t t = 0; t < test.T; ++t)
      for (std::int64_t f = 0; f < test.F; ++f) {
        const auto gate = static_cast<std::size_t>(t * 2 * test.F + f),
                   up = gate + static_cast<std::size_t>(test.F);
        const Doubles gradient =
            numeric_gradient([&](const Doubles& x) { return reference(one, x)[0]; },
                             {static_cast<double>(gate_up[gate]), static_cast<double>(gate_up[up])});
        const auto d = static_cast<double>(d_out[static_cast<std::size_t>(t * test.F + f)]);
        expected[gate] = d * gradient[0];
        expected[up] = d * gradient[1];
      }
    expect_close(expected, d_gate_up, 1e-6, "d_gate_up");
  }
}

TEST(SwiGlu, StandsGatesFarOut) {
  const Floats gate_up{-200.0f, 200.0f, 2.0f, 2.0f}, d_out{1.0f, 1.0f};
  Floats out(2), d_gate_up(4);
  swiglu_forward({}, 1, 2, gate_up.data(), out.data());
  swiglu_backward({}, 1, 2, gate_up.data(), d_out.data(), d_gate_up.data());
  EXPECT_NEAR(out[0], 0.0f, 1e-30f);
  EXPECT_EQ(out[1], 400.0f);
  EXPECT_NEAR(d_gate_up[0], 0.0f, 1e-30f);
  EXPECT_EQ(d_gate_up[1], 2.0f);
}

}  // namespace
}  // namespace infalign::kernels
