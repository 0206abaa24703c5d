// The fixed point of Best-of-N and Worst-of-N. Measure v from the end where h vanishes (v = u for Best-of-N,
// v = 1 - u for Worst-of-N, with F = G or F = 1 - G): both are F'' = +-(N^2/beta) F' v^(N-1) F^(N-1), F(0) =
// 0, F(1) = 1. The equation keeps its form under F(v) = f(lambda v)/f(lambda), and becomes the universal
// initial-value problem f'' = +-f' s^(N-1) f^(N-1), f(0) = 0, f'(0) = 1, with beta in nothing but the end
// point: lambda^N f(lambda)^(N-1) = N^2/beta. The left side rises from 0 without bound, so lambda exists, is
// unique, and is met by integrating once.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/alignment/powers.h"
#include "core/alignment/theory.h"

namespace infalign::alignment {
namespace {

constexpr std::size_t kNodes = PanelRule::kNodes;

/// One point of the universal curve: f, and l = log f', which stays in range where f' does not; l' = +-(s
/// f)^(N-1).
struct Point {
  double s = 0, f = 0, l = 0;
};

/// A stretch of the universal curve, resolved to rounding.
struct Stretch {
  Point begin, end;
  double length;  // not end.s - begin.s: close to a blow-up, a stretch is far shorter than s is precise
  PanelRule::Values f{}, l{};  // at the nodes
};

class UniversalCurve {
 public:
  UniversalCurve(std::int64_t n, double sign) : power_(n - 1), sign_(sign) {}

  /// From 0 to the point where log(s^N f^(N-1)) first equals `level`.
  std::vector<Stretch> integrate_until(double level) const;
  double slope_of_l(double s, double f) const { return sign_ * whole_power(s * f, power_); }

 private:
  /// The stretch of length `step` after `from`, or nothing if it is too long to be resolved.
  std::optional<Stretch> advance(const Point& from, double step) const;
  /// `stretch`, shortened to end where height() is `level`.
  Stretch cut(Stretch stretch, double level) const;
  /// log(s^N f^(N-1)), which rises without bound.
  double height(const Point& at) const {
    const auto p = static_cast<double>(power_);
    return (p + 1) * std::log(at.s) + p * std::log(at.f);
  }

  std::int64_t power_;
  double sign_;
};

/// Collocation by Picard iteration, which contracts whenever the stretch is short enough to be resolved at
/// all. Then the defect of both equations at the stretch's end, where a polynomial through inner nodes is
/// worst, must be at rounding level: the integrals are far better still.
std::optional<Stretch> UniversalCurve::advance(const Point& from, double step) const {
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
      const double scale_l = std::max(1.0, std::abs(l));
      change = std::max({change, std::abs(f - stretch.f[i]) / f, std::abs(l - stretch.l[i]) / scale_l});
      stretch.f[i] = f, stretch.l[i] = l;
    }
    if (!std::isfinite(change)) return std::nullopt;
    for (std::size_t i = 0; i < kNodes; ++i) {
      slope_f[i] = std::exp(stretch.l[i]);
      slope_l[i] = slope_of_l(from.s + step * rule.node[i], stretch.f[i]);
    }
    if (change < 8 * kRounding) break;
  }
  Point& end = stretch.end;
  end.f = from.f, end.l = from.l;
  for (std::size_t j = 0; j < kNodes; ++j) {
    end.f += step * rule.weight[j] * slope_f[j];
    end.l += step * rule.weight[j] * slope_l[j];
  }
  const double defect_f = step * std::abs(interpolate(slope_f, 1) - std::exp(end.l));
  const double defect_l = step * std::abs(interpolate(slope_l, 1) - slope_of_l(end.s, end.f));
  if (!(defect_f <= kDefect * end.f && defect_l <= kDefect * std::max(1.0, std::abs(end.l))))
    return std::nullopt;
  return stretch;
}

Stretch UniversalCurve::cut(Stretch stretch, double level) const {
  constexpr int kMostSteps = 60;
  const double longest = stretch.length;
  for (int newton = 0; newton < kMostSteps; ++newton) {
    const auto p = static_cast<double>(power_);
    const double slope = (p + 1) / stretch.end.s + p * std::exp(stretch.end.l) / stretch.end.f;
    const double beyond = (height(stretch.end) - level) / slope;
    if (std::abs(beyond) <= 1e-15 * stretch.length) break;
    const double length = stretch.length - beyond;
    const auto closer = advance(stretch.begin, length > 0 && length <= longest ? length : stretch.length / 2);
    if (!closer) throw std::runtime_error("the end of the curve cannot be resolved");
    stretch = *closer;
  }
  return stretch;
}

std::vector<Stretch> UniversalCurve::integrate_until(double level) const {
  constexpr double kFirst = 0.25, kShortest = 1e-15, kGrowth = 1.5;
  std::vector<Stretch> curve;
  Point at;
  for (double step = kFirst;;) {
    const std::optional<Stretch> next = advance(at, step);
    if (!next) {
      step /= 2;
      if (step < kShortest * (1 + at.s)) {
        throw std::runtime_error("the curve cannot be followed beyond s = " + std::to_string(at.s));
      }
    } else if (height(next->end) < level) {
      curve.push_back(*next);
      at = next->end;
      step *= kGrowth;
    } else {
      curve.push_back(cut(*next, level));
      return curve;
    }
  }
}

/// A knot of the transform's table, in v; phi is Phi relative to v = 0.
struct Knot {
  double v, phi, slope;
};

/// The curve in the procedure's own variables: v = s/lambda, F = f/f(lambda), and Phi = beta l along v.
class ScaledCurve {
 public:
  ScaledCurve(const UniversalCurve& universal, std::vector<Stretch> curve, std::int64_t n, double beta,
              double sign)
      : universal_(universal), curve_(std::move(curve)), n_(n), beta_(beta), sign_(sign) {}

  double log_density_at_0() const { return std::log(lambda() / end().f); }
  double log_density_at_1() const { return log_density_at_0() + end().l; }

  /// N times the integral of F^N v^(N-1), and KL(p || 1).
  std::pair<double, double> integrals() const;
  /// So many knots that cubics with these values and slopes miss Phi by no more than `tolerance`.
  std::vector<Knot> knots(double tolerance) const;

 private:
  const Point& end() const { return curve_.back().end; }
  double lambda() const { return end().s; }
  /// dPhi/dv = beta lambda l'(s), signed as l is.
  Knot knot(double s, double f, double l) const {
    return {s / lambda(), beta_ * l, beta_ * lambda() * universal_.slope_of_l(s, f)};
  }

  UniversalCurve universal_;
  std::vector<Stretch> curve_;
  std::int64_t n_;
  double beta_, sign_;
};

std::pair<double, double> ScaledCurve::integrals() const {
  const PanelRule& rule = panel_rule();
  double order = 0, entropy = 0;
  for (const Stretch& stretch : curve_) {
    const double width = stretch.length / lambda();
    for (std::size_t i = 0; i < kNodes; ++i) {
      const double v = std::lerp(stretch.begin.s, stretch.end.s, rule.node[i]) / lambda();
      const double f = stretch.f[i] / end().f;
      const double log_p = log_density_at_0() + stretch.l[i];
      order += width * rule.weight[i] * whole_power(f * v, n_ - 1) * f;
      entropy += width * rule.weight[i] * divergence(log_p);
    }
  }
  return {static_cast<double>(n_) * order, entropy};
}

std::vector<Knot> ScaledCurve::knots(double tolerance) const {
  constexpr int kMostPieces = 1024;
  constexpr double kVanished = 50;
  std::vector<Knot> result{knot(0, 0, 0)};
  for (const Stretch& stretch : curve_) {
    const auto inside = [&](double t) {
      return knot(stretch.begin.s + t * stretch.length, interpolate(stretch.f, t), interpolate(stretch.l, t));
    };
    const Knot last = knot(stretch.end.s, stretch.end.f, stretch.end.l);
    std::vector<Knot> chain;
    bool close = false;
    for (int pieces = 1; !close; pieces *= 2) {
      if (pieces > kMostPieces)
        throw std::runtime_error("the table of the transform cannot be made close enough");
      chain.assign(1, result.back());
      for (int i = 1; i < pieces; ++i) chain.push_back(inside(static_cast<double>(i) / pieces));
      chain.push_back(last);
      close = true;
      for (int i = 0; i < pieces && close; ++i) {
        const Knot &a = chain[static_cast<std::size_t>(i)], &b = chain[static_cast<std::size_t>(i) + 1];
        const double cubic = 0.5 * (a.phi + b.phi) + (b.v - a.v) * (a.slope - b.slope) / 8;
        const double exact = inside((i + 0.5) / pieces).phi;
        // Beyond kVanished nothing is left of p on one side, and a relative error of Phi is as good.
        close = std::abs(cubic - exact) <= tolerance * std::max(1.0, std::abs(exact) / (kVanished * beta_));
      }
    }
    result.insert(result.end(), chain.begin() + 1, chain.end());
  }
  // Where Phi is still flat, interpolated values may fall by a rounding error.
  for (std::size_t i = 1; i < result.size(); ++i) {
    if (sign_ * result[i].phi < sign_ * result[i - 1].phi) result[i].phi = result[i - 1].phi;
  }
  return result;
}

/// N = 1: Phi' = 1, so Phi = u, and p is the exponential distribution cut off at 1.
FixedPoint ordinary_sampling(double beta) {
  const double b = 1 / beta;
  FixedPoint point{{0, 1}, {0, 1}, {1, 1}};
  point.density_at_0 = b / std::expm1(b);
  point.density_at_1 = b / -std::expm1(-b);
  const OptimalPolicy policy([](double u) { return u; }, beta);
  point.inference_win_rate = policy.win_rate(make_procedure("standard", 1));
  point.kl = policy.kl();
  point.residual = std::abs(point.inference_win_rate - beta * (point.density_at_1 - 1));
  return point;
}

FixedPoint solve(std::int64_t n, double beta, bool best) {
  const double sign = best ? 1 : -1, count = static_cast<double>(n);
  const UniversalCurve universal(n, sign);
  const ScaledCurve curve(universal, universal.integrate_until(2 * std::log(count) - std::log(beta)), n, beta,
                          sign);

  FixedPoint point;
  const auto [order, entropy] = curve.integrals();
  // In v, not u: the density where h vanishes is p(0) for Best-of-N and p(1) for Worst-of-N.
  const double excess = std::expm1(curve.log_density_at_1());
  point.density_at_0 = std::exp(best ? curve.log_density_at_0() : curve.log_density_at_1());
  point.density_at_1 = std::exp(best ? curve.log_density_at_1() : curve.log_density_at_0());
  point.inference_win_rate = best ? 1 - order : order;
  point.residual =
      std::abs(point.inference_win_rate - (best ? beta / count * excess : 1 + beta / count * excess));
  point.kl = entropy;

  const double range = beta * std::abs(curve.log_density_at_1() - curve.log_density_at_0());
  std::vector<Knot> knots = curve.knots(std::min(1e-8 * beta, 1e-9 * range));
  if (!best) std::reverse(knots.begin(), knots.end());
  const double base = knots.front().phi;
  for (const Knot& knot : knots) {
    point.u.push_back(best ? knot.v : 1 - knot.v);
    point.phi.push_back(knot.phi - base);
    point.slope.push_back(sign * knot.slope);
  }
  return point;
}

}  // namespace

FixedPoint solve_fixed_point(const Procedure& procedure, double beta) {
  if (!(beta > 0 && std::isfinite(beta))) throw std::invalid_argument("beta must be positive");
  const bool best = procedure.name == "best_of_n", worst = procedure.name == "worst_of_n";
  if (!best && !worst && procedure.name != "standard") {
    throw std::invalid_argument("the fixed point of " + procedure.name + " is not known");
  }
  const std::string what = "fixed point of " + procedure.name + ", N = " + std::to_string(procedure.n) +
                           ", beta = " + std::to_string(beta) + ": ";
  FixedPoint point;
  try {
    point = procedure.n == 1 ? ordinary_sampling(beta) : solve(procedure.n, beta, best);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(what + error.what());
  }
  // The identity compares the win rate, an integral, with a density at the end: whatever went wrong shows. A
  // large beta multiplies the rounding of p.
  const double allowed = 1e-10 + 1e-14 * beta;
  if (!(point.residual <= allowed)) {
    throw std::runtime_error(what + "the win rate misses its identity by " + std::to_string(point.residual));
  }
  return point;
}

}  // namespace infalign::alignment
