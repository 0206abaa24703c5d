#include "core/alignment/quadrature.h"

#include <cmath>
#include <numbers>

namespace infalign::alignment {
namespace {

/// The Legendre polynomial of degree PanelRule::kNodes and its derivative, by the three-term recurrence.
struct Legendre {
  double value, derivative;
};
Legendre legendre(double x) {
  double previous = 1, value = x;
  for (std::size_t k = 2; k <= PanelRule::kNodes; ++k) {
    const auto n = static_cast<double>(k);
    const double next = ((2 * n - 1) * x * value - (n - 1) * previous) / n;
    previous = value;
    value = next;
  }
  return {value, static_cast<double>(PanelRule::kNodes) * (x * value - previous) / (x * x - 1)};
}

double interpolate(const PanelRule& rule, std::span<const double, PanelRule::kNodes> values, double t) {
  double numerator = 0, denominator = 0;
  for (std::size_t i = 0; i < PanelRule::kNodes; ++i) {
    const double distance = t - rule.node[i];
    if (distance == 0) return values[i];
    const double share = rule.barycentric[i] / distance;
    numerator += share * values[i];
    denominator += share;
  }
  return numerator / denominator;
}

PanelRule make_rule() {
  PanelRule rule;
  for (std::size_t i = 0; i < PanelRule::kNodes; ++i) {
    double x = -std::cos(std::numbers::pi * (static_cast<double>(i) + 0.75) / (PanelRule::kNodes + 0.5));
    for (int newton = 0; newton < 100; ++newton) {
      const Legendre p = legendre(x);
      const double step = p.value / p.derivative;
      x -= step;
      if (std::abs(step) < 1e-16) break;
    }
    const double slope = legendre(x).derivative;
    rule.node[i] = 0.5 * (1 + x);
    rule.weight[i] = 1 / ((1 - x * x) * slope * slope);
  }
  for (std::size_t i = 0; i < PanelRule::kNodes; ++i) {
    double product = 1;
    for (std::size_t j = 0; j < PanelRule::kNodes; ++j) {
      if (j != i) product *= rule.node[i] - rule.node[j];
    }
    rule.barycentric[i] = 1 / product;
  }
  for (std::size_t j = 0; j < PanelRule::kNodes; ++j) {
    PanelRule::Values basis{};
    basis[j] = 1;
    for (std::size_t i = 0; i < PanelRule::kNodes; ++i) {
      double sum = 0;
      for (std::size_t k = 0; k < PanelRule::kNodes; ++k) {
        sum += rule.weight[k] * interpolate(rule, basis, rule.node[i] * rule.node[k]);
      }
      rule.to_node[i][j] = rule.node[i] * sum;
    }
  }
  return rule;
}

}  // namespace

const PanelRule& panel_rule() {
  static const PanelRule rule = make_rule();
  return rule;
}

double interpolate(std::span<const double, PanelRule::kNodes> values, double t) {
  return interpolate(panel_rule(), values, t);
}

double integrate_to(std::span<const double, PanelRule::kNodes> values, double t) {
  const PanelRule& rule = panel_rule();
  double sum = 0;
  for (std::size_t k = 0; k < PanelRule::kNodes; ++k)
    sum += rule.weight[k] * interpolate(rule, values, t * rule.node[k]);
  return t * sum;
}

}  // namespace infalign::alignment
