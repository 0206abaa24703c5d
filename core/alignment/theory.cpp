#include "core/alignment/theory.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/alignment/monotone_cubic.h"

namespace infalign::alignment {
namespace {

/// The first panels shrink by halves towards both ends: u^(1/beta) is singular at 0, a small beta presses all
/// of p against 1, and a procedure of large N looks at nothing but one end.
constexpr int kHalvings = 44;
constexpr int kDeepestRefinement = 40;
constexpr double kPanelTolerance = 1e-13;    // of the whole probability, for each panel's share
constexpr std::size_t kMostPanels = 20'000;  // more: beta is so small that it magnifies Phi's rounding errors

std::vector<double> first_edges() {
  std::vector<double> edges{0};
  for (int i = kHalvings; i >= 1; --i) edges.push_back(std::ldexp(1.0, -i));
  for (int i = 2; i <= kHalvings; ++i) edges.push_back(1 - std::ldexp(1.0, -i));
  edges.push_back(1);
  return edges;
}

}  // namespace

OptimalPolicy::OptimalPolicy(const std::function<double(double)>& transform, double beta)
    : transform_(transform), beta_(beta) {
  if (!(beta > 0 && std::isfinite(beta))) throw std::invalid_argument("beta must be positive");
  peak_ = transform(1);
  if (!std::isfinite(peak_)) throw std::domain_error("a transform must be finite at 1");
  const std::vector<double> edges = first_edges();
  std::vector<Panel> first;
  double mass = 0;
  for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
    first.push_back(sample(edges[i], edges[i + 1]));
    mass += first.back().below;  // until the sweep below, a panel's own mass
  }
  for (const Panel& panel : first) refine(panel, kPanelTolerance * mass, 0);

  double normaliser = 0;
  for (const Panel& panel : panel_) normaliser += panel.below;
  log_normaliser_ = std::log(normaliser);
  const PanelRule& rule = panel_rule();
  double below = 0;
  for (Panel& panel : panel_) {
    const double width = panel.end - panel.begin, own = panel.below / normaliser;
    for (double& density : panel.density) density /= normaliser;
    for (std::size_t i = 0; i < PanelRule::kNodes; ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < PanelRule::kNodes; ++j) sum += rule.to_node[i][j] * panel.density[j];
      panel.cumulative[i] = below + width * sum;
      kl_ += width * rule.weight[i] * divergence(panel.log_density[i] - log_normaliser_);
    }
    panel.below = below;
    below += own;
  }
}

double OptimalPolicy::log_relative_density(double u) const {
  const double phi = transform_(u);
  if (std::isnan(phi) || phi == std::numeric_limits<double>::infinity()) {
    throw std::domain_error("the transform is not a number below infinity at u = " + std::to_string(u));
  }
  return (phi - peak_) / beta_;
}

OptimalPolicy::Panel OptimalPolicy::sample(double begin, double end) const {
  Panel panel{begin, end, 0};
  const PanelRule& rule = panel_rule();
  for (std::size_t i = 0; i < PanelRule::kNodes; ++i) {
    panel.log_density[i] = log_relative_density(std::lerp(begin, end, rule.node[i]));
    panel.density[i] = std::exp(panel.log_density[i]);
    panel.below += (end - begin) * rule.weight[i] * panel.density[i];
  }
  return panel;
}

void OptimalPolicy::refine(const Panel& panel, double tolerance, int depth) {
  const double middle = std::midpoint(panel.begin, panel.end);
  const Panel left = sample(panel.begin, middle), right = sample(middle, panel.end);
  if (std::abs(left.below + right.below - panel.below) <= tolerance || depth == kDeepestRefinement) {
    panel_.push_back(left);
    panel_.push_back(right);
    if (panel_.size() > kMostPanels) {
      throw std::runtime_error("the transform is too rough for beta = " + std::to_string(beta_));
    }
    return;
  }
  refine(left, tolerance, depth + 1);
  refine(right, tolerance, depth + 1);
}

double OptimalPolicy::density(double u) const {
  if (!(u >= 0 && u <= 1)) return 0;
  return std::exp(log_relative_density(u) - log_normaliser_);
}

double OptimalPolicy::cumulative(double u) const {
  if (u <= 0) return 0;
  if (u >= 1) return 1;
  const auto after = std::upper_bound(panel_.begin(), panel_.end(), u,
                                      [](double x, const Panel& panel) { return x < panel.begin; });
  const Panel& panel = *(after - 1);
  const double width = panel.end - panel.begin;
  return std::min(1.0, panel.below + width * integrate_to(panel.density, (u - panel.begin) / width));
}

double OptimalPolicy::inverse_cumulative(double probability) const {
  double low = 0, high = 1;
  while (std::midpoint(low, high) != low && std::midpoint(low, high) != high) {
    const double middle = std::midpoint(low, high);
    (cumulative(middle) < probability ? low : high) = middle;
  }
  return low;
}

double OptimalPolicy::win_rate(const Matchup& matchup) const {
  const PanelRule& rule = panel_rule();
  // Where a density jumps, a panel is integrated in two: the opponent's at u, the policy's where G(u) is.
  std::vector<double> cuts = matchup.opponent.breaks;
  for (double q : matchup.policy.breaks) cuts.push_back(inverse_cumulative(q));
  std::sort(cuts.begin(), cuts.end());
  double lost = 0;
  for (const Panel& panel : panel_) {
    const double width = panel.end - panel.begin;
    const auto first = std::upper_bound(cuts.begin(), cuts.end(), panel.begin);
    if (first == cuts.end() || *first >= panel.end) {
      for (std::size_t i = 0; i < PanelRule::kNodes; ++i) {
        const double u = std::lerp(panel.begin, panel.end, rule.node[i]);
        lost += width * rule.weight[i] * matchup.policy.cumulative(panel.cumulative[i]) *
                matchup.opponent.density(u);
      }
      continue;
    }
    std::vector<double> edges{panel.begin};
    for (auto cut = first; cut != cuts.end() && *cut < panel.end; ++cut) edges.push_back(*cut);
    edges.push_back(panel.end);
    for (std::size_t e = 0; e + 1 < edges.size(); ++e) {
      for (std::size_t i = 0; i < PanelRule::kNodes; ++i) {
        const double u = std::lerp(edges[e], edges[e + 1], rule.node[i]);
        lost += (edges[e + 1] - edges[e]) * rule.weight[i] * matchup.policy.cumulative(cumulative(u)) *
                matchup.opponent.density(u);
      }
    }
  }
  return 1 - lost;
}

double OptimalPolicy::win_rate(const Deployment& deployment) const {
  if (!deployment.is_calibrated()) {
    throw std::invalid_argument("the choice of " + deployment.name() +
                                " does not follow from ranks: no win rate in closed form");
  }
  double rate = 0;
  for (const Matchup& matchup : deployment.matchups()) rate += matchup.share * win_rate(matchup);
  return rate;
}

Prediction predict(const TransformAt& transform_at, const Deployment& deployment, double beta) {
  const OptimalPolicy policy(transform_at(beta), beta);
  return {beta,
          policy.kl(),
          policy.win_rate(make_procedure("standard", 1)),
          policy.win_rate(deployment),
          policy.density(0),
          policy.density(1)};
}

double beta_at_kl(const std::function<double(double beta)>& kl_at, double kl, const BetaSearch& search) {
  const std::string asked = "KL " + std::to_string(kl);
  if (!(kl > 0 && std::isfinite(kl)))
    throw std::runtime_error(asked + " is reached at no beta: it must be positive");
  // log(KL/target) against log beta: nearly straight, falling with a slope between -1 and -2 where p has a
  // density at its end. So the first value tells about where the root is, and a step of its size brackets it.
  const auto excess = [&](double log_beta) {
    return std::log(std::max(kl_at(std::exp(log_beta)), std::numeric_limits<double>::min()) / kl);
  };
  constexpr double kFurthest = 30, kShortest = 0.01, kLongest = 4, kMiddleSlope = 1.5, kGiveUp = 0.3;
  struct End {
    double x, f;
  };
  End low{std::log(search.start), excess(std::log(search.start))}, high = low;
  double step = std::clamp(std::abs(low.f) / kMiddleSlope, kShortest, kLongest);
  while (low.f < 0) {
    if (low.x - step < -kFurthest)
      throw std::runtime_error(asked + " is reached at no beta: beta fell below 1e-13");
    try {
      const End next{low.x - step, excess(low.x - step)};
      high = std::exchange(low, next);
      step *= 2;
    } catch (const std::runtime_error& error) {  // so small a beta is too much; a larger one may do
      if ((step /= 4) < kGiveUp) throw std::runtime_error(asked + " is reached at no beta: " + error.what());
    }
  }
  for (; high.f > 0; step *= 2) {
    if (high.x + step > kFurthest)
      throw std::runtime_error(asked + " is reached at no beta: beta rose above 1e13");
    low = std::exchange(high, {high.x + step, excess(high.x + step)});
  }
  // Secants through the ends with the stale end's value halved (Illinois), so the bracket always shrinks.
  int stale = 0;  // which end was kept last time
  for (int trial = 0; trial < 200; ++trial) {
    if (std::abs(low.f) < search.tolerance) return std::exp(low.x);
    if (std::abs(high.f) < search.tolerance || high.x - low.x < 1e-14) return std::exp(high.x);
    const double x =
        trial % 8 == 7 ? std::midpoint(low.x, high.x) : (low.x * high.f - high.x * low.f) / (high.f - low.f);
    const double f = excess(x);
    if (std::abs(f) < search.tolerance) return std::exp(x);
    if (f > 0) {
      low = {x, f};
      if (stale > 0) high.f /= 2;
      stale = 1;
    } else {
      high = {x, f};
      if (stale < 0) low.f /= 2;
      stale = -1;
    }
  }
  throw std::runtime_error("the search for the beta of " + asked + " did not converge");
}

Prediction predict_at_kl(const TransformAt& transform_at, const Deployment& deployment, double kl,
                         const BetaSearch& search) {
  const auto kl_at = [&](double beta) { return OptimalPolicy(transform_at(beta), beta).kl(); };
  return predict(transform_at, deployment, beta_at_kl(kl_at, kl, search));
}

Prediction predict_optimal(const Deployment& deployment, double beta) {
  const FixedPoint point = solve_fixed_point(deployment, beta);
  const OptimalPolicy policy(MonotoneCubic(point.u, point.phi, point.slope), beta);
  return {beta,
          point.kl,
          policy.win_rate(make_procedure("standard", 1)),
          point.inference_win_rate,
          point.density_at_0,
          point.density_at_1};
}

Prediction predict_optimal_at_kl(const Deployment& deployment, double kl, const BetaSearch& search) {
  const auto kl_at = [&](double beta) { return solve_fixed_point(deployment, beta).kl; };
  return predict_optimal(deployment, beta_at_kl(kl_at, kl, search));
}

}  // namespace infalign::alignment
