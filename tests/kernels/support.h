// What the kernels' tests share: reproducible inputs, gradients by central differences in float64, and a
// comparison that names the worst entry. References live beside each test, as plain loops in float64.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <vector>

namespace infalign::kernels::testing {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

/// n numbers, normal with the given standard deviation.
inline Floats normal(std::int64_t n, std::uint32_t seed, double deviation = 1) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> distribution(0, deviation);
  Floats values(static_cast<std::size_t>(n));
  for (float& value : values) value = static_cast<float>(distribution(engine));
  return values;
}

inline Doubles widened(std::span<const float> values) { return {values.begin(), values.end()}; }

/// Every entry within tolerance, relative to 1 + the largest expected magnitude.
inline void expect_close(std::span<const double> expected, std::span<const float> actual, double tolerance,
                         const char* what) {
  ASSERT_EQ(expected.size(), actual.size()) << what;
  double scale = 1, worst = 0;
  std::size_t worst_at = 0;
  for (const double value : expected) scale = std::max(scale, std::abs(value));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(expected[i] - static_cast<double>(actual[i]));
    if (error > worst || std::isnan(error)) worst = error, worst_at = i;
    if (std::isnan(error)) break;
  }
  EXPECT_LE(worst, tolerance * scale) << what << ": entry " << worst_at << " of " << expected.size();
}

/// d loss / d x by central differences.
inline Doubles numeric_gradient(const std::function<double(const Doubles&)>& loss, Doubles x,
                                double step = 1e-5) {
  Doubles gradient(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double at = x[i];
    x[i] = at + step;
    const double above = loss(x);
    x[i] = at - step;
    gradient[i] = (above - loss(x)) / (2 * step);
    x[i] = at;
  }
  return gradient;
}

/// Runs body with this many OpenMP threads.
template <class Body>
void with_threads(int threads, Body&& body) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  body();
  omp_set_num_threads(before);
}

}  // namespace infalign::kernels::testing
