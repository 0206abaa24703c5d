// The fixed point is the curve G' = e^l, l' = (1/beta) sum of share h_m(G) k_m(u) from G(0) = 0 to G(1) = 1,
// h_m the policy's densities and k_m the opponents'. Only l(0) is unknown. l never falls, so l(0) <= 0; and
// it rises by at most `span`, so from l(0) = -span the curve ends at or below 1: a solution lies between,
// always. Where all h_m rise, G(1) rises with l(0) and the solution is the only one (the win rate is concave
// in G). Else starting points are scanned, and of the solutions found the one with the largest W - beta KL is
// returned.
#include "core/alignment/shooting.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

#include "core/alignment/curve.h"

namespace infalign::alignment {
namespace {

constexpr double kScale = 1e-3;  // G is precise to 1e-12 of max(G, kScale) a stretch

/// A piecewise smooth density, asked inside one of its pieces.
struct Piece {
  double low, high;
  double operator()(const std::function<double(double)>& density, double q) const {
    return density(std::clamp(q, low, high));
  }
};

/// The piece of a density with these `breaks` that begins at or holds q.
Piece piece_at(const std::vector<double>& breaks, double q) {
  Piece piece{0, 1};
  for (double at : breaks) {
    if (at <= q) piece.low = at;
    if (at > q) {
      piece.high = std::nextafter(at, 0);
      break;
    }
  }
  return piece;
}

/// Ascending, without duplicates, inside (0, 1).
std::vector<double> all_breaks(const Deployment& deployment, Procedure Matchup::*side) {
  std::vector<double> breaks;
  for (const Matchup& matchup : deployment.matchups())
    breaks.insert(breaks.end(), (matchup.*side).breaks.begin(), (matchup.*side).breaks.end());
  std::sort(breaks.begin(), breaks.end());
  breaks.erase(std::unique(breaks.begin(), breaks.end()), breaks.end());
  return breaks;
}

class Shooter {
 public:
  Shooter(const Deployment& deployment, double beta)
      : deployment_(deployment),
        beta_(beta),
        u_breaks_(all_breaks(deployment, &Matchup::opponent)),
        g_breaks_(all_breaks(deployment, &Matchup::policy)) {}

  /// The curve from l(0), to u = 1 or to G = 1, whichever comes first.
  std::vector<Stretch> shoot(double l0) const;
  /// How far the curve from l(0) ends above G(1) = 1, as a logarithm; rises with l(0) near a solution.
  double excess(double l0) const;
  double span() const;
  bool rises() const;
  FixedPoint finish(std::vector<Stretch> curve) const;

 private:
  double slope(double u, double G, const Piece& in_u, const Piece& in_g) const {
    double sum = 0;
    for (const Matchup& matchup : deployment_.matchups())
      sum += matchup.share * in_g(matchup.policy.density, G) * in_u(matchup.opponent.density, u);
    return sum;
  }

  const Deployment& deployment_;
  double beta_;
  std::vector<double> u_breaks_, g_breaks_;
};

/// `stretch`, shortened to end where G is g_end.
template <class Advance>
std::optional<Stretch> cut_at(const Stretch& stretch, double g_end, const Advance& advance) {
  constexpr int kMostSteps = 80;
  double low = 0, high = stretch.length;
  std::optional<Stretch> next = stretch;
  for (int newton = 0; newton < kMostSteps && std::abs(next->end.f - g_end) > 1e-15 * g_end; ++newton) {
    double length = next->length - (next->end.f - g_end) * std::exp(-next->end.l);
    if (!(length > low && length < high)) length = std::midpoint(low, high);
    if (length == low || length == high) break;
    next = advance(length);
    if (!next) return std::nullopt;
    (next->end.f < g_end ? low : high) = length;
  }
  next->end.f = g_end;
  return next;
}

std::vector<Stretch> Shooter::shoot(double l0) const {
  constexpr double kFirst = 1.0 / 16, kShortest = 1e-15, kGrowth = 1.7;
  constexpr int kMostStretches = 20'000;
  std::vector<Stretch> curve;
  CurvePoint at{0, 0, l0};
  double step = kFirst;
  while (at.s < 1 && at.f < 1) {
    if (curve.size() == kMostStretches) throw std::runtime_error("the curve takes too many stretches");
    const Piece in_u = piece_at(u_breaks_, at.s), in_g = piece_at(g_breaks_, at.f);
    const auto next_break = std::upper_bound(u_breaks_.begin(), u_breaks_.end(), at.s);
    const double u_end = next_break == u_breaks_.end() ? 1 : *next_break;
    const auto next_g = std::upper_bound(g_breaks_.begin(), g_breaks_.end(), at.f);
    const double g_end = next_g == g_breaks_.end() ? 1 : *next_g;
    const auto slope_of_l = [&](double u, double G) { return slope(u, G, in_u, in_g) / beta_; };
    const auto advance = [&](double length) { return follow(slope_of_l, at, length, kScale); };

    const double length = std::min(step, u_end - at.s);
    std::optional<Stretch> next = advance(length);
    if (!next) {
      if ((step = length / 2) < kShortest) {
        throw std::runtime_error("the curve cannot be followed beyond u = " + std::to_string(at.s));
      }
      continue;
    }
    if (next->end.f > g_end) {
      next = cut_at(*next, g_end, advance);
      if (!next) {  // nearer to it, the end is easier to resolve
        step = length / 2;
        continue;
      }
    } else if (length == step) {
      step *= kGrowth;
    }
    curve.push_back(*next);
    at = next->end;
    if (u_end - at.s < 1e-16) at.s = u_end;
  }
  return curve;
}

double Shooter::excess(double l0) const {
  const CurvePoint end = shoot(l0).back().end;
  if (end.s >= 1) return std::log(std::max(end.f, std::numeric_limits<double>::min()));
  return std::log1p(std::exp(std::min(end.l, 700.0)) * (1 - end.s));
}

double Shooter::span() const {
  constexpr int kGrid = 256;
  double highest = 0;
  for (const Matchup& matchup : deployment_.matchups()) {
    double most = 0;
    for (int i = 0; i <= kGrid; ++i)
      most = std::max(most, matchup.policy.density(static_cast<double>(i) / kGrid));
    highest += matchup.share * most;
  }
  return 1.01 * highest / beta_ + 1;  // the integral of each k is 1; the grid may miss a peak by a little
}

bool Shooter::rises() const {
  constexpr int kGrid = 256;
  for (const Matchup& matchup : deployment_.matchups()) {
    for (int i = 0; i < kGrid; ++i) {
      if (matchup.policy.density((i + 1.0) / kGrid) < matchup.policy.density(static_cast<double>(i) / kGrid))
        return false;
    }
  }
  return true;
}

FixedPoint Shooter::finish(std::vector<Stretch> curve) const {
  const PanelRule& rule = panel_rule();
  // Half of the last stretch's rounding is in u or in G; both end at 1.
  curve.back().end.s = 1;
  const double l0 = curve.front().begin.l, l1 = curve.back().end.l;
  FixedPoint point;
  point.density_at_0 = std::exp(l0);
  point.density_at_1 = std::exp(l1);
  double lost = 0, expected_density = 0;
  for (const Stretch& stretch : curve) {
    for (std::size_t i = 0; i < PanelRule::kNodes; ++i) {
      const double u = stretch.s_at(rule.node[i]), G = stretch.f[i];
      const double weight = stretch.length * rule.weight[i];
      point.kl += weight * divergence(stretch.l[i]);
      const double density = std::exp(stretch.l[i]);
      for (const Matchup& matchup : deployment_.matchups()) {
        const double opponent = matchup.opponent.density(u);
        lost += weight * matchup.share * matchup.policy.cumulative(std::min(G, 1.0)) * opponent;
        expected_density +=
            weight * matchup.share * density * matchup.policy.density(std::min(G, 1.0)) * opponent;
      }
    }
  }
  point.inference_win_rate = 1 - lost;
  // p' = p Phi'/beta integrates to beta (p(1) - p(0)) = E over the policy's answers of the opponents'
  // density.
  const double difference = beta_ * (point.density_at_1 - point.density_at_0);
  point.residual = std::abs(difference - expected_density) / std::max(1.0, std::abs(difference));

  constexpr double kVanished = 50;
  const double range = beta_ * (l1 - l0);
  const auto knot_at = [&](const Stretch& stretch, const CurvePoint& at) {
    const CurvePoint inside = stretch.at(0.5);
    const Piece in_u = piece_at(u_breaks_, inside.s), in_g = piece_at(g_breaks_, inside.f);
    return Knot{at.s, beta_ * (at.l - l0), slope(at.s, at.f, in_u, in_g)};
  };
  std::vector<Knot> table = knots(curve, knot_at, std::min(1e-8 * beta_, 1e-9 * range), kVanished * beta_);
  for (const Knot& knot : table) {  // interpolated values may fall by a rounding error
    point.u.push_back(knot.u);
    point.phi.push_back(point.phi.empty() ? knot.phi : std::max(knot.phi, point.phi.back()));
    point.slope.push_back(knot.slope);
  }
  return point;
}

/// The l(0) between `under`, where excess is f_under < 0, and `over`, where it is f_over > 0: secants with
/// the stale end's value halved (Illinois), and bisection where the excess is far from straight.
double root(const Shooter& shooter, double under, double f_under, double over, double f_over) {
  constexpr double kStraight = 1, kMet = 1e-13;
  constexpr int kMostSteps = 400;
  int stale = 0;
  for (int step = 0; step < kMostSteps; ++step) {
    const double middle = std::midpoint(under, over);
    if (middle == under || middle == over) break;
    const bool halve = f_over - f_under > kStraight || step % 6 == 5;
    double x = halve ? middle : (under * f_over - over * f_under) / (f_over - f_under);
    if (!((x - under) * (over - x) > 0)) x = middle;
    const double f = shooter.excess(x);
    if (std::abs(f) < kMet) return x;
    if (f < 0) {
      under = x, f_under = f;
      if (stale < 0) f_over /= 2;
      stale = -1;
    } else {
      over = x, f_over = f;
      if (stale > 0) f_under /= 2;
      stale = 1;
    }
  }
  return under;
}

}  // namespace

FixedPoint shoot_fixed_point(const Deployment& deployment, double beta) {
  const Shooter shooter(deployment, beta);
  const double lowest = -shooter.span();
  // Starting points from 0 down, ever farther apart: most curves start within a few units of 0.
  std::vector<double> starts{0};
  if (shooter.rises()) {
    starts.push_back(lowest);
  } else {
    constexpr double kNear = 0.25, kRatio = 1.15;
    for (double distance = kNear; - distance > lowest; distance *= kRatio) starts.push_back(-distance);
    starts.push_back(lowest);
  }
  std::optional<FixedPoint> best;
  double best_objective = 0;
  double high = starts.front(), f_high = shooter.excess(high);
  for (std::size_t i = 1; i < starts.size(); ++i) {
    const double low = starts[i], f_low = shooter.excess(low);
    if (f_high == 0 || (f_low < 0) != (f_high < 0)) {
      const double l0 = f_high == 0 ? high
                        : f_low < 0 ? root(shooter, low, f_low, high, f_high)
                                    : root(shooter, high, f_high, low, f_low);
      FixedPoint point = shooter.finish(shooter.shoot(l0));
      const double objective = point.inference_win_rate - beta * point.kl;
      if (!best || objective > best_objective) best = std::move(point), best_objective = objective;
    }
    high = low, f_high = f_low;
  }
  if (!best) throw std::runtime_error("no curve meets both ends");
  return *best;
}

}  // namespace infalign::alignment
