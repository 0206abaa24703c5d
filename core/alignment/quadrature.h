// Gauss-Legendre quadrature on one panel, and the same rule as a means to integrate from the panel's left end
// to each of its nodes. Both users need exactly that: the optimal policy's cumulative G beside its density p,
// and the fixed point's differential equation, solved panel by panel.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <span>

namespace infalign::alignment {

/// The rule on [0, 1]: exact for polynomials of degree 2 kNodes - 1.
struct PanelRule {
  static constexpr std::size_t kNodes = 12;
  using Values = std::array<double, kNodes>;

  Values node, weight;
  /// integral from 0 to node[i] of f = sum over j of to_node[i][j] f(node[j]), exact for degree kNodes - 1.
  std::array<Values, kNodes> to_node;
  Values barycentric;  // weights of interpolation through the nodes
};
const PanelRule& panel_rule();

/// The polynomial through `values` at the rule's nodes, at t in [0, 1].
double interpolate(std::span<const double, PanelRule::kNodes> values, double t);
/// Its integral from 0 to t.
double integrate_to(std::span<const double, PanelRule::kNodes> values, double t);

/// p log p - p + 1 for p = e^log_density: integrates to the KL of a density to the uniform, and is never
/// negative, so that a small KL is not the difference of large terms.
inline double divergence(double log_density) {
  const double density = std::exp(log_density);
  return density == 0 ? 1 : density * log_density - std::expm1(log_density);
}

}  // namespace infalign::alignment
