// Soft-capping against float64 and its gradient against central differences.
#include "kernels/softcap/softcap.h"

#include "kernels/support.h"

namespace infalign::kernels {
namespace {

using namespace testing;

Doubles reference(float cap, Doubles x) {
  for (double& value : x) value = double{cap} * std::tanh(value / double{cap});
  return x;
}

TEST(Softcap, AgreesWithReferenceAndCentralDifferences) {
  for (const float cap : {0.5f, 30.0f}) {
    const Floats before = normal(301, 1, 3), d_out = normal(301, 2);
    Floats capped = before, d = d_out;
    softcap_forward({}, 301, cap, capped.data());
    expect_close(reference(cap, widened(before)), capped, 3e-7, "capped");
    softcap_backward({}, 301, cap, capped.data(), d.data());
    Doubles expected;
    for (std::size_t i = 0; i < before.size(); ++i)
      expected.push_back(
          double{d_out[i]} *
          numeric_gradient([&](const Doubles& x) { return reference(cap, x)[0]; }, {double{before[i]}})[0]);
    expect_close(expected, d, 5e-7, "d");
  }
}

TEST(Softcap, StandsValuesFarOut) {
  Floats x{-1e30f, 1e30f}, d{1.0f, 1.0f};
  softcap_forward({}, 2, 50.0f, x.data());
  EXPECT_EQ(x, (Floats{-50.0f, 50.0f}));
  softcap_backward({}, 2, 50.0f, x.data(), d.data());
  EXPECT_EQ(d, (Floats{0.0f, 0.0f}));
}

TEST(Softcap, DoesNotDependOnThreads) {
  const std::int64_t n = 70001;
  Floats one = normal(n, 3), three = one;
  with_threads(1, [&] { softcap_forward({}, n, 2.0f, one.data()); });
  with_threads(3, [&] { softcap_forward({}, n, 2.0f, three.data()); });
  EXPECT_EQ(one, three);
}

}  // namespace
}  // namespace infalign::kernels
