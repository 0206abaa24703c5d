#include "core/alignment/order_statistics.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

namespace infalign::alignment {

namespace {

/// log k!. Not std::lgamma, which writes the sign to a variable that all threads share.
double log_factorial(double k) {
  int sign = 0;
  return lgamma_r(k + 1, &sign);
}

/// One more sample falls below the i-th smallest of m with probability i/(m + 1), which makes it the
/// (i+1)-th.
void elevate_stepwise(std::int64_t from, std::span<double> result) {
  for (auto m = from; m < static_cast<std::int64_t>(result.size()); ++m) {
    const auto count = static_cast<double>(m + 1);
    for (std::int64_t i = m; i >= 0; --i) {
      const auto at = static_cast<std::size_t>(i);
      const double stays = result[at] * (count - static_cast<double>(i) - 1) / count;
      result[at] = stays + (i == 0 ? 0 : result[at - 1] * static_cast<double>(i) / count);
    }
  }
}

/// Adds weight times the law of the i-th smallest of n as the j-th smallest of M, C(j-1, i-1) C(M-j,
/// n-i)/C(M, n): from its largest term outwards by the ratio of neighbours, scaled to the sum 1, so that no
/// factorial appears.
void add_order_statistic(double weight, std::int64_t n, std::int64_t i, std::span<double> result) {
  const auto M = static_cast<std::int64_t>(result.size());
  const auto ratio = [=](std::int64_t j) {  // of the term of j + 1 to that of j
    const auto up = static_cast<double>(j) / static_cast<double>(j - i + 1);
    return up * static_cast<double>(M - j - n + i) / static_cast<double>(M - j);
  };
  const std::int64_t lowest = i, highest = M - n + i;
  const auto mode = n == 1 ? lowest : std::clamp((i - 1) * M / (n - 1) + 1, lowest, highest);
  std::vector<double> term(static_cast<std::size_t>(highest - lowest + 1));
  const auto at = [=](std::int64_t j) { return static_cast<std::size_t>(j - lowest); };
  double whole = term[at(mode)] = 1;
  for (std::int64_t j = mode; j < highest; ++j) whole += term[at(j + 1)] = term[at(j)] * ratio(j);
  for (std::int64_t j = mode; j > lowest; --j) whole += term[at(j - 1)] = term[at(j)] / ratio(j - 1);
  for (std::int64_t j = lowest; j <= highest; ++j)
    result[static_cast<std::size_t>(j - 1)] += weight * term[at(j)] / whole;
}

}  // namespace

std::vector<double> elevate(std::span<const double> weights, std::int64_t samples) {
  const auto from = static_cast<std::int64_t>(weights.size());
  if (samples < from) {
    throw std::invalid_argument("a choice among " + std::to_string(from) + " needs as many samples, not " +
                                std::to_string(samples));
  }
  std::vector<double> result(static_cast<std::size_t>(samples));
  const auto ranks = from - std::count(weights.begin(), weights.end(), 0.0);  // that can be chosen
  if (samples - from <= ranks) {
    std::copy(weights.begin(), weights.end(), result.begin());
    elevate_stepwise(from, result);
    return result;
  }
  for (std::int64_t i = 1; i <= from; ++i) {
    const double weight = weights[static_cast<std::size_t>(i - 1)];
    if (weight != 0) add_order_statistic(weight, from, i, result);
  }
  return result;
}

BernsteinPolynomial::BernsteinPolynomial(std::vector<double> coefficient)
    : coefficient_(std::move(coefficient)) {
  if (coefficient_.empty()) throw std::invalid_argument("a polynomial needs coefficients");
  const auto degree = static_cast<std::int64_t>(coefficient_.size()) - 1;
  for (std::int64_t k = 0; k <= degree; ++k) {
    const auto d = static_cast<double>(degree), x = static_cast<double>(k);
    log_binomial_.push_back(log_factorial(d) - log_factorial(x) - log_factorial(d - x));
    if (coefficient_[static_cast<std::size_t>(k)] == 0) continue;
    if (last_ < 0) first_ = k;
    last_ = k;
  }
}

double BernsteinPolynomial::operator()(double q) const {
  const auto degree = static_cast<std::int64_t>(coefficient_.size()) - 1;
  if (last_ < 0) return 0;
  if (q <= 0) return coefficient_.front();
  if (q >= 1) return coefficient_.back();
  const auto d = static_cast<double>(degree);
  const auto mode = std::clamp(static_cast<std::int64_t>(q * (d + 1)), first_, last_);
  const auto m = static_cast<double>(mode);
  const double peak =
      std::exp(log_binomial_[static_cast<std::size_t>(mode)] + (mode > 0 ? m * std::log(q) : 0) +
               (mode < degree ? (d - m) * std::log1p(-q) : 0));
  constexpr double kNegligible =
      1e-20;  // of the peak: what lies beyond falls off faster than a geometric series
  const double odds = q / (1 - q);
  double sum = coefficient_[static_cast<std::size_t>(mode)];
  double term = 1;
  for (std::int64_t k = mode + 1; k <= last_ && term > kNegligible; ++k) {
    term *= odds * static_cast<double>(degree - k + 1) / static_cast<double>(k);
    sum += term * coefficient_[static_cast<std::size_t>(k)];
  }
  term = 1;
  for (std::int64_t k = mode - 1; k >= first_ && term > kNegligible; --k) {
    term *= static_cast<double>(k + 1) / (odds * static_cast<double>(degree - k));
    sum += term * coefficient_[static_cast<std::size_t>(k)];
  }
  return peak * sum;
}

BernsteinPolynomial rank_density(std::span<const double> weights) {
  std::vector<double> coefficient(weights.begin(), weights.end());
  for (double& each : coefficient) each *= static_cast<double>(weights.size());
  return BernsteinPolynomial(std::move(coefficient));
}

BernsteinPolynomial rank_cumulative(std::span<const double> weights) {
  std::vector<double> coefficient{0};
  for (double weight : weights) coefficient.push_back(coefficient.back() + weight);
  // Rounding may leave the whole a hair from 1, and H(1) is compared with 1.
  if (std::abs(coefficient.back() - 1) < 1e-9)
    for (double& each : coefficient) each = std::min(1.0, each / coefficient.back());
  return BernsteinPolynomial(std::move(coefficient));
}

}  // namespace infalign::alignment
