// Every operation's results on the GPU (or its stand-in) against the CPU's, and against themselves.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "kernels/cuda/registry.h"
#include "kernels/precision.h"

namespace infalign::kernels {
namespace {

using namespace testing;

/// Of the cases, every so many. A thread that the thread sanitizer follows takes it a hundred times as long,
/// and what races in some sizes does in others.
#ifdef __SANITIZE_THREAD__
constexpr std::size_t kStep = 9;
#else
constexpr std::size_t kStep = 1;
#endif

class OnCuda : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no GPU";
  }
};

void expect_equal(const Result& expected, const Result& actual, double tolerance) {
  ASSERT_EQ(expected.values.size(), actual.values.size()) << expected.name;
  double scale = 1;
  for (const double value : expected.values)
    if (std::isfinite(value)) scale = std::max(scale, std::abs(value));
  for (std::size_t i = 0; i < expected.values.size(); ++i) {
    const double a = expected.values[i], b = actual.values[i];
    if (a == b || (std::isnan(a) && std::isnan(b))) continue;
    ASSERT_LE(std::abs(a - b), tolerance * scale)
        << expected.name << " [" << i << " of " << expected.values.size() << "]: " << a << " and " << b;
  }
}

TEST_P(OnCuda, AgreesWithTheCpu) {
  const Operation& operation = operation_named(GetParam());
  if (operation.cases.empty() && !has_bfloat16())
    GTEST_SKIP() << "this processor has no products in bfloat16 to compare with";
  ASSERT_GE(operation.cases.size(), 30u);
  const Stream gpu(Device::kCuda);
  for (std::size_t at = 0; at < operation.cases.size(); at += kStep) {
    const OperationCase& test = operation.cases[at];
    SCOPED_TRACE(test.name);
    const auto expected = run_on(Stream(), test), actual = run_on(gpu, test);
    ASSERT_EQ(expected.size(), actual.size());
    for (std::size_t i = 0; i < expected.size(); ++i)
      expect_equal(expected[i], actual[i], operation.tolerance);
    if (HasFailure()) break;
  }
}

TEST_P(OnCuda, GivesTheSameBitsAgain) {
  const Stream gpu(Device::kCuda);
  const auto& cases = operation_named(GetParam()).cases;
  for (std::size_t at = 0; at < cases.size(); at += 5) {
    SCOPED_TRACE(cases[at].name);
    const auto once = run_on(gpu, cases[at]), again = run_on(gpu, cases[at]);
    for (std::size_t i = 0; i < once.size(); ++i) expect_equal(once[i], again[i], 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Operations, OnCuda, ::testing::ValuesIn(operation_names()), [](const auto& of) {
  std::string name = of.param;
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
});

}  // namespace
}  // namespace infalign::kernels
