// Following a pair of differential equations f' = e^l, l' = slope(s, f) to rounding: both fixed-point solvers
// are such a curve, with f a cumulative probability and l the logarithm of its density, which stays in range
// where the density does not.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/alignment/quadrature.h"

namespace infalign::alignment {

struct CurvePoint {
  double s = 0, f = 0, l = 0;
};

/// A stretch of the curve, resolved to rounding by one polynomial.
struct Stretch {
  CurvePoint begin, end;
  double length;  // not end.s - begin.s: close to a blow-up, a stretch is far shorter than s is precise
  PanelRule::Values f{}, l{};  // at the nodes

  double s_at(double t) const { return begin.s + t * length; }
  CurvePoint at(double t) const { return {s_at(t), interpolate(f, t), interpolate(l, t)}; }
};

/// The stretch of length `step` after `from`, or nothing if it is too long to be resolved. Collocation by
/// Picard iteration, which contracts whenever the stretch is short enough to be resolved at all. Then the
/// defect of both equations at the stretch's end, where a polynomial through inner nodes is worst, must be at
/// rounding level: the integrals are far better still. f is precise relative to max(f, `scale`).
template <class Slope>
std::optional<Stretch> follow(const Slope& slope_of_l, const CurvePoint& from, double step, double scale) {
  constexpr std::size_t kNodes = PanelRule::kNodes;
  constexpr int kMostIterations = 40;
  constexpr double kRounding = 1e-15, kDefect = 1e-12;
  const PanelRule& rule = panel_rule();
  Stretch stretch{from, {from.s + step, 0, 0}, step};
  PanelRule::Values slope_f, slope_l;
  slope_f.fill(std::exp(from.l));
  slope_l.fill(0);
  for (int iteration = 0;; ++iteration) {
    if (iteration == kMostIterations) return std::nullopt;
    double change = 0;
    for (std::size_t i = 0; i < kNodes; ++i) {
      double f = 0, l = 0;
      for (std::size_t j = 0; j < kNodes; ++j) {
        f += rule.to_node[i][j] * slope_f[j];
        l += rule.to_node[i][j] * slope_l[j];
      }
      f = from.f + step * f, l = from.l + step * l;
      // A rounding error of l is a relative error of e^l, so f is known no better than l is.
      const double scale_l = std::max(1.0, std::abs(l)), scale_f = std::max(scale, f) * scale_l;
      change = std::max({change, std::abs(f - stretch.f[i]) / scale_f, std::abs(l - stretch.l[i]) / scale_l});
      stretch.f[i] = f, stretch.l[i] = l;
    }
    if (!std::isfinite(change)) return std::nullopt;
    for (std::size_t i = 0; i < kNodes; ++i) {
      slope_f[i] = std::exp(stretch.l[i]);
      slope_l[i] = slope_of_l(from.s + step * rule.node[i], stretch.f[i]);
    }
    if (change < 8 * kRounding) break;
  }
  CurvePoint& end = stretch.end;
  end.f = from.f, end.l = from.l;
  for (std::size_t j = 0; j < kNodes; ++j) {
    end.f += step * rule.weight[j] * slope_f[j];
    end.l += step * rule.weight[j] * slope_l[j];
  }
  const double defect_f = step * std::abs(interpolate(slope_f, 1) - std::exp(end.l));
  const double defect_l = step * std::abs(interpolate(slope_l, 1) - slope_of_l(end.s, end.f));
  if (!(defect_f <= kDefect * std::max(scale, end.f) && defect_l <= kDefect * std::max(1.0, std::abs(end.l))))
    return std::nullopt;
  return stretch;
}

/// A knot of a transform's table: Phi and its slope at u.
struct Knot {
  double u, phi, slope;
};

/// So many knots that cubics with these values and slopes miss Phi by no more than `tolerance`, or by a
/// relative `tolerance` where |Phi| exceeds `large`. `knot_at` gives the knot of a point of a stretch; u may
/// run either way along the curve. Where two stretches meet in different slopes there are two knots with the
/// same u. Errors: std::runtime_error when it takes too many.
using KnotAt = std::function<Knot(const Stretch& stretch, const CurvePoint& at)>;
std::vector<Knot> knots(std::span<const Stretch> curve, const KnotAt& knot_at, double tolerance,
                        double large);

}  // namespace infalign::alignment
