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

#include "core/alignment/curve.h"
#include "core/alignment/powers.h"
#include "core/alignment/shooting.h"
#include "core/alignment/theory.h"

namespace infalign::alignment {
namespace {

/// f'' = +-f' s^(N-1) f^(N-1), with l = log f'.
class UniversalCurve {
 public:
  UniversalCurve(std::int64_t n, double sign) : power_(n - 1), sign_(sign) {}

  /// From 0 to the point where log(s^N f^(N-1)) first equals `level`.
  std::vector<Stretch> integrate_until(double level) const;
  double slope_of_l(double s, double f) const { return sign_ * whole_power(s * f, power_); }

 private:
  std::optional<Stretch> advance(const CurvePoint& from, double step) const {
    return follow([this](double s, double f) { return slope_of_l(s, f); }, from, step, 0);
  }
  /// `stretch`, shortened to end where height() is `level`.
  Stretch cut(Stretch stretch, double level) const;
  /// log(s^N f^(N-1)), which rises without bound.
  double height(const CurvePoint& at) const {
    const auto p = static_cast<double>(power_);
    return (p + 1) * std::log(at.s) + p * std::log(at.f);
  }

  std::int64_t power_;
  double sign_;
};

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
  CurvePoint at;
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
  /// The table of Phi along v, signed as l is.
  std::vector<Knot> table(double tolerance) const;

 private:
  const CurvePoint& end() const { return curve_.back().end; }
  double lambda() const { return end().s; }

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
    for (std::size_t i = 0; i < PanelRule::kNodes; ++i) {
      const double v = std::lerp(stretch.begin.s, stretch.end.s, rule.node[i]) / lambda();
      const double f = stretch.f[i] / end().f;
      const double log_p = log_density_at_0() + stretch.l[i];
      order += width * rule.weight[i] * whole_power(f * v, n_ - 1) * f;
      entropy += width * rule.weight[i] * divergence(log_p);
    }
  }
  return {static_cast<double>(n_) * order, entropy};
}

std::vector<Knot> ScaledCurve::table(double tolerance) const {
  // Beyond kVanished nothing is left of p on one side, and a relative error of Phi is as good.
  constexpr double kVanished = 50;
  const auto knot_at = [&](const Stretch&, const CurvePoint& at) {
    return Knot{at.s / lambda(), beta_ * at.l, beta_ * lambda() * universal_.slope_of_l(at.s, at.f)};
  };
  std::vector<Knot> result = knots(curve_, knot_at, tolerance, kVanished * beta_);
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
  std::vector<Knot> table = curve.table(std::min(1e-8 * beta, 1e-9 * range));
  if (!best) std::reverse(table.begin(), table.end());
  const double base = table.front().phi;
  for (const Knot& knot : table) {
    point.u.push_back(best ? knot.u : 1 - knot.u);
    point.phi.push_back(knot.phi - base);
    point.slope.push_back(sign * knot.slope);
  }
  return point;
}

}  // namespace

namespace {

/// 1 if the deployment is Best-of-N against Best-of-N, -1 for Worst-of-N, 0 for any other.
int extreme_of(const Deployment& deployment) {
  const Matchup& only = deployment.matchups().front();
  const std::vector<double>& weights = only.policy.rank_weights;
  if (deployment.matchups().size() > 1 || weights.empty() || weights != only.opponent.rank_weights) return 0;
  return weights.back() == 1 ? 1 : weights.front() == 1 ? -1 : 0;
}

}  // namespace

FixedPoint solve_fixed_point(const Deployment& deployment, double beta) {
  if (!(beta > 0 && std::isfinite(beta))) throw std::invalid_argument("beta must be positive");
  if (!deployment.is_calibrated()) {
    throw std::invalid_argument("the choice of " + deployment.name() +
                                " does not follow from ranks, so that it has no optimal transform; use "
                                "leave-one-out rewards");
  }
  const std::string what = "fixed point of " + deployment.name() + ", beta = " + std::to_string(beta) + ": ";
  const int extreme = extreme_of(deployment);
  const std::int64_t n = deployment.policy_candidates();
  FixedPoint point;
  try {
    point = extreme == 0 ? shoot_fixed_point(deployment, beta)
            : n == 1     ? ordinary_sampling(beta)
                         : solve(n, beta, extreme > 0);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(what + error.what());
  }
  // The identity compares an integral over the whole curve with the density at its ends: whatever went wrong
  // shows. A large beta multiplies the rounding of p.
  const double allowed = (extreme == 0 ? 1e-8 : 1e-10) + 1e-14 * beta;
  if (!(point.residual <= allowed)) {
    throw std::runtime_error(what + "the win rate misses its identity by " + std::to_string(point.residual));
  }
  return point;
}

}  // namespace infalign::alignment
